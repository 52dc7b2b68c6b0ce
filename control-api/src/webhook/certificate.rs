//! The certificate while the webhook runs: looked after every few seconds, so that a renewal, whoever made it, is served
//! without a restart, and whoever overwrites the API server's trust in it finds it mended. Started by `webhook`.

use std::time::{Duration, SystemTime};

use tokio::{sync::watch, time::timeout};

use super::registration;
use crate::{
    ca::{self, CaError, Material, Place, Serving},
    clock::Clock,
    error,
};

/// Two objects and a Secret are read each time.
const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Certificate {
    place: Place,
    names: Vec<String>,
    serving: std::sync::Arc<Serving>,
    cluster: Option<kube::Client>,
    installed: Option<Material>,
    /// What was last complained about, so that it is not said every few seconds.
    complaint: Option<String>,
}

impl Certificate {
    pub(super) fn new(
        place: Place,
        names: Vec<String>,
        serving: std::sync::Arc<Serving>,
        cluster: Option<kube::Client>,
    ) -> Self {
        Self {
            place,
            names,
            serving,
            cluster,
            installed: None,
            complaint: None,
        }
    }

    /// Looks once: what is due at `now` is made, what is new is served, and the API server trusts it.
    pub(super) async fn step(&mut self, now: SystemTime) -> Result<(), CaError> {
        let material = ca::settle(&self.place, &self.names, now).await?;
        if self.installed.as_ref() != Some(&material) {
            self.serving.install(&material)?;
            tracing::info!("serving the webhook with a certificate for {}", self.names.join(", "));
            self.installed = Some(material);
        }
        Ok(())
    }

    pub(super) async fn keep(mut self, clock: Clock, mut stop: watch::Receiver<bool>) {
        loop {
            match self.step(clock()).await {
                Ok(()) => self.register().await,
                Err(error) => self.complain(&error),
            }
            if let Ok(Ok(_)) = timeout(INTERVAL, stop.wait_for(|stop| *stop)).await {
                return;
            }
        }
    }

    async fn register(&mut self) {
        let (Some(client), Some(material)) = (&self.cluster, &self.installed) else {
            self.complaint = None;
            return;
        };
        match registration::trust(client, &material.authorities).await {
            Ok(()) => self.complaint = None,
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&mut self, error: &dyn std::error::Error) {
        let sentence = error::sentence(error);
        if self.complaint.as_ref() != Some(&sentence) {
            tracing::warn!("webhook: {sentence}; trying again every {} s", INTERVAL.as_secs());
            self.complaint = Some(sentence);
        }
    }
}
