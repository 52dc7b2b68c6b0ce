//! The API server's trust: the authority's certificate in each webhook of the configurations that the manifests install.
//! Called by `certificate`. Only the bundle is written, and only where it is another: manifests that are applied again take
//! it away, and get it back.

use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
    },
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::REGISTRATIONS;

#[derive(Debug, thiserror::Error)]
#[error("cannot give the {kind} {REGISTRATIONS} the authority: {source}")]
pub(super) struct RegistrationError {
    kind: &'static str,
    source: kube::Error,
}

/// Puts `authorities` wherever they are not. A configuration that is not there is not wanted.
pub(super) async fn trust(client: &Client, authorities: &str) -> Result<(), RegistrationError> {
    let bundle = ByteString(authorities.as_bytes().to_vec());
    let mutating = |it: &MutatingWebhookConfiguration| {
        let webhooks = it.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.clone(), webhook.client_config.clone()))
            .collect()
    };
    mend(client, "MutatingWebhookConfiguration", &bundle, mutating).await?;
    let validating = |it: &ValidatingWebhookConfiguration| {
        let webhooks = it.webhooks.iter().flatten();
        webhooks
            .map(|webhook| (webhook.name.clone(), webhook.client_config.clone()))
            .collect()
    };
    mend(client, "ValidatingWebhookConfiguration", &bundle, validating).await
}

async fn mend<K>(
    client: &Client,
    kind: &'static str,
    bundle: &ByteString,
    webhooks: impl Fn(&K) -> Vec<(String, WebhookClientConfig)>,
) -> Result<(), RegistrationError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    K: Resource<Scope = k8s_openapi::ClusterResourceScope>,
{
    let failed = |source| RegistrationError { kind, source };
    let api: Api<K> = Api::all(client.clone());
    let Some(found) = api.get_opt(REGISTRATIONS).await.map_err(failed)? else {
        return Ok(());
    };
    let Some(patch) = patch(webhooks(&found), found.meta().resource_version.as_deref(), bundle) else {
        return Ok(());
    };
    match api
        .patch(REGISTRATIONS, &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(_) => {
            tracing::info!("the {kind} {REGISTRATIONS} trusts this webhook's authority");
            Ok(())
        }
        // Somebody else writes: another look comes soon.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(source) => Err(failed(source)),
    }
}

/// Webhooks are merged by their names; the version is the one that was read, so that none is patched which is gone.
fn patch(webhooks: Vec<(String, WebhookClientConfig)>, version: Option<&str>, bundle: &ByteString) -> Option<Value> {
    let others = webhooks
        .into_iter()
        .filter(|(_, config)| config.ca_bundle.as_ref() != Some(bundle));
    let changes: Vec<Value> = others
        .map(|(name, _)| json!({"name": name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    (!changes.is_empty()).then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": changes}))
}
