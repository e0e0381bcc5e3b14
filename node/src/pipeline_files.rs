//! Pipelines from the files of `pipelines_dir`: applied at start, and again whenever the files change.
//!
//! Each node that has the directory applies it; what is there already is not changed by that. A file that goes away takes no pipeline with
//! it: deleting one is an operator's word. Files are looked at by time and length, as Kubernetes replaces a mounted `ConfigMap` by moving
//! a symbolic link, which not every file system tells a watcher.

use std::{collections::BTreeMap, convert::Infallible, future, path::Path, time::Duration};

use sluice_coordinator::{
    Coordinator, ProposeError,
    machine::{ApplyPipeline, Outcome},
};
use tokio::time::sleep;

use crate::{
    app::Error,
    config::{ClusterName, Manifest, manifests},
};

/// Pause before a pipeline that nobody took is proposed again.
const APPLY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A change of a file is seen so soon. Kubernetes itself takes up to a minute to bring it to the node.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who applies files.
#[derive(Debug)]
pub(crate) struct PipelineFiles {
    coordinator: Coordinator,
    cluster: ClusterName,
}

impl PipelineFiles {
    pub(crate) fn new(coordinator: Coordinator, cluster: ClusterName) -> Self {
        Self { coordinator, cluster }
    }

    /// Applies `manifests`, each until it is applied or refused.
    ///
    /// # Errors
    /// The coordinator has stopped, or has answered something else.
    pub(crate) async fn apply(&self, manifests: &[Manifest]) -> Result<(), Error> {
        for manifest in manifests {
            match self.propose(manifest).await? {
                Outcome::Pipeline { pipeline, changed } => {
                    tracing::info!(pipeline = %manifest.name, revision = %pipeline.revision, changed, "pipeline applied from file");
                }
                // What was there goes on: one pipeline that cannot be changed now must not keep the others from running.
                Outcome::Refused(refusal) => {
                    tracing::error!(pipeline = %manifest.name, "not applied from file: {}", refusal.message);
                }
                other => return Err(Error::Pipeline { name: manifest.name.to_string(), why: format!("{other:?}") }),
            }
        }
        Ok(())
    }

    async fn propose(&self, manifest: &Manifest) -> Result<Outcome, Error> {
        loop {
            match self.coordinator.propose(ApplyPipeline { spec: manifest.spec(&self.cluster) }).await {
                Ok(outcome) => return Ok(outcome),
                Err(error @ ProposeError::Stopped(_)) => return Err(Error::Failed(error.to_string())),
                // Applied twice it is as applied once, so one of unknown fate is simply applied again.
                Err(error) => {
                    tracing::warn!(pipeline = %manifest.name, %error, "not applied from file yet; trying again");
                    sleep(APPLY_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// Applies what changes in `dir`, for ever. `applied`: what was read of it at start.
    pub(crate) async fn follow(&self, dir: Option<&Path>, applied: &[Manifest]) -> Infallible {
        let Some(dir) = dir else { return future::pending().await };
        let mut known = documents(applied);
        // Of what was last read without an error, and the error that was told since.
        let (mut seen, mut told) = (None, String::new());
        loop {
            let marks = manifests::marks(dir).ok();
            if marks.is_none() || marks != seen {
                match manifests::load_dir(dir) {
                    Ok(found) => {
                        self.apply_changed(&mut known, &found).await;
                        (seen, told) = (marks, String::new());
                    }
                    Err(errors) if errors.to_string() == told => {}
                    Err(errors) => {
                        told = errors.to_string();
                        tracing::error!(
                            "pipelines_dir: what runs goes on, and nothing is applied until this is mended: {told}"
                        );
                    }
                }
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn apply_changed(&self, known: &mut BTreeMap<String, String>, found: &[Manifest]) {
        let found_documents = documents(found);
        for name in known.keys().filter(|name| !found_documents.contains_key(*name)) {
            tracing::warn!(pipeline = %name, "its file is gone; the pipeline stays until `sluice pipelines delete`");
        }
        let is_new =
            |manifest: &&Manifest| known.get(manifest.name.as_str()).map(String::as_str) != Some(manifest.document());
        let changed: Vec<Manifest> = found.iter().filter(is_new).cloned().collect();
        if let Err(error) = self.apply(&changed).await {
            tracing::error!("pipelines_dir: {error}");
        }
        *known = found_documents;
    }
}

fn documents(manifests: &[Manifest]) -> BTreeMap<String, String> {
    manifests.iter().map(|manifest| (manifest.name.to_string(), manifest.document().to_owned())).collect()
}
