//! Pipelines from the files of `pipelines_dir`: applied at start, and again whenever the files change.
//!
//! Each node that has the directory applies it; what is there already is not changed by that. A file that goes away takes no pipeline with
//! it: deleting one is an operator's word. Files are looked at from time to time, as Kubernetes replaces a mounted `ConfigMap` by moving a
//! symbolic link, which not every file system tells a watcher.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future,
    path::Path,
    time::Duration,
};

use sluice_coordinator::{
    Coordinator, ProposeError,
    machine::{ApplyPipeline, Outcome},
    model::PipelineName,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    app::Error,
    config::{ClusterName, Manifest, manifests},
};

/// Pause before a pipeline that nobody took is proposed again.
const PROPOSED_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Pause before one that was refused is: what is in its way may go, as a pipeline of the same name that is being deleted does, or stay for
/// ever, and then the log is not to be filled with it.
const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A change of a file is seen so soon. Kubernetes itself takes up to a minute to bring it to the node.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who applies files.
#[derive(Debug)]
pub(crate) struct PipelineFiles {
    coordinator: Coordinator,
    cluster: ClusterName,
    /// The documents that were applied: what has not changed since is not applied over what others have applied meanwhile.
    applied: BTreeMap<PipelineName, String>,
    /// Why pipelines were refused, as it was told.
    refused: BTreeMap<PipelineName, String>,
    /// How much is wrong.
    wrong: watch::Sender<usize>,
}

impl PipelineFiles {
    pub(crate) fn new(coordinator: Coordinator, cluster: ClusterName) -> Self {
        let (applied, refused) = (BTreeMap::new(), BTreeMap::new());
        Self { coordinator, cluster, applied, refused, wrong: watch::Sender::new(0) }
    }

    /// Follows how much is wrong: files that cannot be applied as they are count as one, and so does each pipeline that was refused.
    pub(crate) fn wrong(&self) -> watch::Receiver<usize> {
        self.wrong.subscribe()
    }

    /// Applies what is not applied yet of `manifests`, each until it is applied or refused.
    ///
    /// # Errors
    /// The coordinator has stopped, or has answered something else.
    pub(crate) async fn apply(&mut self, manifests: &[Manifest]) -> Result<(), Error> {
        for manifest in manifests {
            if self.applied.get(&manifest.name).is_some_and(|applied| applied == manifest.document()) {
                continue;
            }
            match self.propose(manifest).await? {
                Outcome::Pipeline { pipeline, changed } => {
                    tracing::info!(pipeline = %manifest.name, revision = %pipeline.revision, changed, "pipeline applied from file");
                    self.refused.remove(&manifest.name);
                    self.applied.insert(manifest.name.clone(), manifest.document().to_owned());
                }
                // What was there goes on: one pipeline that cannot be changed now must not keep the others from running.
                Outcome::Refused(refusal) => {
                    let told = self.refused.insert(manifest.name.clone(), refusal.message.clone());
                    if told.as_ref() != Some(&refusal.message) {
                        tracing::error!(pipeline = %manifest.name, "not applied from file: {}", refusal.message);
                    }
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
                    sleep(PROPOSED_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// Applies what changes in `dir`, and what was refused, for ever.
    pub(crate) async fn follow(mut self, dir: Option<&Path>) -> Infallible {
        let Some(dir) = dir else { return future::pending().await };
        // Of what was last read without an error, and the error that was told since.
        let (mut seen, mut told) = (None, String::new());
        let mut read_at = Instant::now();
        loop {
            let marks = manifests::marks(dir).ok();
            let is_due = !self.refused.is_empty() && read_at.elapsed() >= REFUSED_AGAIN_AFTER;
            if marks.is_none() || marks != seen || is_due {
                read_at = Instant::now();
                match manifests::load_dir(dir) {
                    Ok(found) => {
                        if !std::mem::take(&mut told).is_empty() {
                            tracing::info!("pipelines_dir: nothing is wrong any more");
                        }
                        self.take_in(&found).await;
                        seen = marks;
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
            self.wrong.send_replace(self.refused.len() + usize::from(!told.is_empty()));
            sleep(LOOK_EVERY).await;
        }
    }

    async fn take_in(&mut self, found: &[Manifest]) {
        let names: BTreeSet<_> = found.iter().map(|manifest| &manifest.name).collect();
        for (name, _) in self.applied.extract_if(.., |name, _| !names.contains(name)) {
            tracing::warn!(pipeline = %name, "its file is gone; a pipeline that runs goes on until `sluice pipelines delete`");
        }
        self.refused.retain(|name, _| names.contains(name));
        if let Err(error) = self.apply(found).await {
            tracing::error!("pipelines_dir: {error}");
        }
    }
}
