//! Each resource at its Kubernetes path: GET, PUT and DELETE of one, GET of a collection in one namespace or in all.
//! The API version in the path is the one in the answer, whichever the document was written in.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    response::Response,
};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::{
    Api, delete_options, documents,
    failure::{self, Failure},
    request::{Format, Query},
};
use crate::{
    config::{self, Document, Key, Kind, Origin},
    ingest::{Operation, Removal},
};

const ONE: &str = "GET, PUT, DELETE";
const COLLECTION: &str = "GET";

/// What a path names.
#[derive(Debug, PartialEq)]
struct Target<'a> {
    kind: Kind,
    version: &'a str,
    /// `None`: all.
    namespace: Option<&'a str>,
    /// `None`: the collection.
    name: Option<&'a str>,
}

impl<'a> Target<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (group, rest) = match segments.as_slice() {
            ["api", rest @ ..] => ("", rest),
            ["apis", group, rest @ ..] if !group.is_empty() => (*group, rest),
            _ => return None,
        };
        let (version, namespace, plural, name) = match rest {
            [version, plural] => (*version, None, *plural, None),
            [version, "namespaces", namespace, plural] => (*version, Some(*namespace), *plural, None),
            [version, "namespaces", namespace, plural, name] => (*version, Some(*namespace), *plural, Some(*name)),
            _ => return None,
        };
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.group() == group && kind.plural() == plural)?;
        kind.versions().contains(&version).then_some(Self {
            kind,
            version,
            namespace,
            name,
        })
    }

    fn api_version(&self) -> String {
        match self.kind.group() {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The object as this version of the API shows it.
    fn show(&self, document: &Document) -> Value {
        let mut object = document.object.clone();
        object["apiVersion"] = self.api_version().into();
        object
    }
}

pub(super) async fn serve(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    let path = decoded(request.uri().path())?;
    let Some(target) = Target::parse(&path) else {
        return Err(Failure::not_found(format!("there is no resource at {path}")));
    };
    if let Some(namespace) = target.namespace {
        config::check_namespace(namespace).map_err(Failure::bad_request)?;
    }
    match (target.namespace, target.name) {
        (Some(namespace), Some(name)) => {
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let key = Key {
                kind: target.kind,
                namespace,
                name,
            };
            key.check().map_err(Failure::bad_request)?;
            one(&api, &target, key, request).await
        }
        _ => list(&api, &target, &request),
    }
}

/// Each segment of the path; none of them holds a slash, so that they can still be told apart.
fn decoded(path: &str) -> Result<String, Failure> {
    let mut decoded = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        let text = percent_decode_str(segment).decode_utf8();
        let text = text.map_err(|_| Failure::bad_request("the path is not UTF-8"))?;
        if text.is_empty() {
            return Err(Failure::bad_request(format!("a segment of the path {path} is empty")));
        }
        if text.contains('/') {
            return Err(Failure::bad_request(format!("{text:?} in the path is no name")));
        }
        decoded.push('/');
        decoded.push_str(&text);
    }
    Ok(decoded)
}

async fn one(api: &Api, target: &Target<'_>, key: Key, request: Request) -> Result<Response, Failure> {
    match *request.method() {
        Method::GET | Method::HEAD => get(api, target, &key, &request),
        Method::PUT => put(api, target, key, request).await,
        Method::DELETE => delete(api, key, request).await,
        ref other => Err(Failure::method_not_allowed(other, ONE)),
    }
}

fn get(api: &Api, target: &Target<'_>, key: &Key, request: &Request) -> Result<Response, Failure> {
    Query::of(request.uri(), &[])?;
    let held = api.ingest.held();
    let document = held.documents.get(key).ok_or_else(|| Failure::no_such(key))?;
    Ok(Format::wanted(request.headers()).reply(StatusCode::OK, &target.show(document)))
}

fn list(api: &Api, target: &Target<'_>, request: &Request) -> Result<Response, Failure> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Failure::method_not_allowed(request.method(), COLLECTION));
    }
    Query::of(request.uri(), &[])?;
    let held = api.ingest.held();
    let wanted = |key: &Key| key.kind == target.kind && target.namespace.is_none_or(|wanted| key.namespace == wanted);
    let items: Vec<Value> = held
        .documents
        .iter()
        .filter(|(key, _)| wanted(key))
        .map(|(_, document)| target.show(document))
        .collect();
    let reply = json!({
        "apiVersion": target.api_version(),
        "kind": format!("{}List", target.kind.as_str()),
        "metadata": {"resourceVersion": held.world.revision().to_string()},
        "items": items,
    });
    Ok(Format::wanted(request.headers()).reply(StatusCode::OK, &reply))
}

async fn put(api: &Api, target: &Target<'_>, key: Key, request: Request) -> Result<Response, Failure> {
    let dry_run = Query::of(request.uri(), &["dryRun"])?.dry_run()?;
    let format = Format::wanted(request.headers());
    let documents = documents::read(request, &key.namespace).await?;
    let [document] = documents.as_slice() else {
        return Err(Failure::bad_request(format!(
            "the body holds {} documents; send one",
            documents.len()
        )));
    };
    if document.key != key {
        return Err(Failure::bad_request(format!(
            "the body is {}, the path is {key}",
            document.key
        )));
    }
    let applied = api.ingest.apply(documents, dry_run).await?;
    let change = applied.changes.first();
    let document: Option<&Arc<Document>> = change.and_then(|change| change.document.as_ref());
    let Some(document) = document else {
        return Err(Failure::internal(format!("{key} was stored, but is not there")));
    };
    let created = change.is_some_and(|change| change.operation == Operation::Created);
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(format.reply(status, &target.show(document)))
}

async fn delete(api: &Api, key: Key, request: Request) -> Result<Response, Failure> {
    let dry_run = Query::of(request.uri(), &["dryRun"])?.dry_run()?;
    let format = Format::wanted(request.headers());
    let wish = delete_options::read(request).await?;
    let held = api.ingest.held();
    let document = held.documents.get(&key).ok_or_else(|| Failure::no_such(&key))?;
    let uid = document.object["metadata"]["uid"].as_str().unwrap_or_default();
    let removal = Removal {
        key: key.clone(),
        expected: wish.expected,
        origin: Origin::default(),
    };
    let applied = api.ingest.delete(vec![removal], dry_run || wish.dry_run).await?;
    if applied
        .changes
        .iter()
        .any(|change| change.operation == Operation::NotFound)
    {
        return Err(Failure::no_such(&key));
    }
    Ok(format.reply(StatusCode::OK, &failure::deleted(&key, uid, applied.warnings)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_resource_or_a_collection() {
        let one = Target::parse("/apis/networking.istio.io/v1/namespaces/shop/virtualservices/user");
        let expected = Target {
            kind: Kind::VirtualService,
            version: "v1",
            namespace: Some("shop"),
            name: Some("user"),
        };
        assert_eq!(one, Some(expected));
        let all = Target::parse("/apis/networking.istio.io/v1alpha3/destinationrules").map(|target| target.namespace);
        assert_eq!(all, Some(None));
        let path = decoded("/api/v1/namespaces/sh%6Fp/services").ok();
        assert_eq!(path.as_deref(), Some("/api/v1/namespaces/shop/services"));
    }

    #[test]
    fn a_path_with_an_empty_or_a_strange_segment_is_refused() {
        for path in [
            "/api/v1/namespaces/shop/services/",
            "/api/v1/namespaces//services",
            "/api/v1/namespaces/a%2Fb/services",
            "/api/v1/namespaces/%ff/services",
        ] {
            assert!(decoded(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_path_with_a_wrong_group_version_or_kind_names_nothing() {
        for path in [
            "/apis/networking.istio.io/v2/namespaces/a/virtualservices/x",
            "/apis/security.istio.io/v1/namespaces/a/virtualservices/x",
            "/api/v1/namespaces/a/virtualservices/x",
            "/apis/networking.istio.io/v1/namespaces/a/VirtualService/x",
            "/apis//v1/namespaces/a/services/x",
            "/apis/networking.istio.io/v1/namespaces/a/virtualservices/x/status",
            "/api",
        ] {
            assert_eq!(Target::parse(path), None, "{path}");
        }
    }
}
