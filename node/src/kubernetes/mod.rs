//! The StatefulSet that this node's pod is of: its `spec.replicas` say which nodes there are to be.
//!
//! A pod is told to stop in the same way whether it is to come back or not. So a node that stops asks: one whose ordinal is beyond the replicas
//! leaves the cluster for good. One that could not, since it died or was killed first, is removed by the leader. And one whose disk was
//! removed, and that is to be there all the same, comes back with an empty one.
//!
//! No replicas at all is no wish to be without a cluster: all stop, as members, and come back.

mod api;

use std::{
    cmp::Reverse,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use sluice_coordinator::{
    Coordinator, Heard,
    machine::{Outcome, RemoveMember},
    model::{NodeName, Owner},
};
use tokio::time::sleep;

use crate::config::{self, ConfigErrors};
use api::Api;
pub(crate) use api::ApiError;

/// Between two looks of a leader at who is absent.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between two questions to the apiserver while nobody is.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// See the file's head.
#[derive(Debug, Clone)]
pub(crate) struct StatefulSet {
    api: Api,
    name: String,
    /// Of all clones.
    is_unreadable: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    /// The apiserver fills in 1 where a manifest says nothing.
    replicas: u32,
    #[serde(default)]
    ordinals: Ordinals,
}

#[derive(Default, Deserialize)]
struct Ordinals {
    #[serde(default)]
    start: u32,
}

impl Spec {
    /// Whether there is to be a node of this name. One that is no pod's of this StatefulSet is none of its business.
    fn wants(&self, statefulset: &str, node: &NodeName) -> bool {
        let wanted = self.ordinals.start..self.ordinals.start.saturating_add(self.replicas);
        self.replicas == 0 || ordinal(statefulset, node).is_none_or(|ordinal| wanted.contains(&ordinal))
    }
}

impl StatefulSet {
    /// The one that the configuration names; None: it names none.
    ///
    /// # Errors
    /// This process runs in no pod that may ask for it.
    pub(crate) fn of(config: &config::Node) -> Result<Option<Self>, ConfigErrors> {
        let Some(name) = &config.kubernetes_statefulset else { return Ok(None) };
        match Api::of_pod() {
            Ok(api) => Ok(Some(Self { api, name: name.clone(), is_unreadable: Arc::default() })),
            Err(error) => Err(ConfigErrors::whole("kubernetes_statefulset", error.to_string())),
        }
    }

    /// Whether there is to be a node of this name.
    ///
    /// # Errors
    /// The apiserver did not say.
    pub(crate) async fn wants(&self, node: &NodeName) -> Result<bool, ApiError> {
        Ok(self.spec().await?.wants(&self.name, node))
    }

    /// Whether the apiserver did not say, when it was asked last.
    pub(crate) fn is_unreadable(&self) -> bool {
        self.is_unreadable.load(Ordering::Relaxed)
    }

    async fn spec(&self) -> Result<Spec, ApiError> {
        let Self { api, name, is_unreadable } = self;
        let path = format!("/apis/apps/v1/namespaces/{}/statefulsets/{name}", api.namespace);
        let spec = api.get(&path).await.and_then(|object| spec(&object));
        let was_unreadable = is_unreadable.swap(spec.is_err(), Ordering::Relaxed);
        if let Err(error) = &spec
            && !was_unreadable
        {
            tracing::warn!(
                "StatefulSet {name}: its replicas are not known, so nodes that it loses stay members: {error}"
            );
        }
        spec
    }

    /// Removes members that are absent and not wanted any more, the highest first. Returns whether there are unwanted ones, absent or not.
    pub(crate) async fn remove_absent(&self, coordinator: &Coordinator) -> bool {
        let members = coordinator.members().await;
        let Ok(spec) = self.spec().await else { return false };
        let unwanted = unwanted(&self.name, &spec, members);
        for member in unwanted.iter().filter(|member| !member.is_alive) {
            remove(coordinator, member.owner.clone()).await;
        }
        !unwanted.is_empty()
    }

    /// Does so while this node leads and somebody is absent; and looks now and then whether the apiserver would say, for ever.
    pub(crate) async fn follow(&self, coordinator: &Coordinator) -> Infallible {
        let mut asked_at: Option<Instant> = None;
        loop {
            let is_absent = coordinator.overview().is_some_and(|overview| overview.alive < overview.members);
            if is_absent {
                self.remove_absent(coordinator).await;
                asked_at = Some(Instant::now());
            } else if asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
                // Before it matters, and not only when the node is told to stop; `is_unreadable` and the log tell.
                let _ = self.spec().await;
                asked_at = Some(Instant::now());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

async fn remove(coordinator: &Coordinator, Owner { node, generation }: Owner) {
    let remove = RemoveMember { name: node.clone(), force: true, generation: Some(generation) };
    match coordinator.propose(remove).await {
        Ok(Outcome::Member { .. }) => {
            tracing::info!(%node, "removed: it is absent, and the StatefulSet has no such replica any more");
        }
        // It is absent in the next look too, if it is to be.
        Ok(other) => tracing::warn!(%node, "not removed: {other:?}"),
        Err(error) => tracing::warn!(%node, "not removed yet: {error}"),
    }
}

/// Of those, which there are not to be, the highest first.
fn unwanted(statefulset: &str, spec: &Spec, mut members: Vec<Heard>) -> Vec<Heard> {
    members.retain(|member| !spec.wants(statefulset, &member.owner.node));
    members.sort_by_key(|member| Reverse(member.owner.node.ordinal()));
    members
}

/// A pod's number in its StatefulSet: `sluice-2` is number 2 of `sluice`.
pub(crate) fn ordinal(statefulset: &str, node: &NodeName) -> Option<u32> {
    let (prefix, _) = node.as_str().rsplit_once('-')?;
    node.ordinal().filter(|_| prefix == statefulset)
}

fn spec(object: &[u8]) -> Result<Spec, ApiError> {
    let object: Object = serde_json::from_slice(object).map_err(|error| ApiError::Answer(error.to_string()))?;
    Ok(object.spec)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use sluice_coordinator::model::Generation;

    use super::*;

    fn name(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn replicas_say_who_is_wanted_and_none_is_not_nobody() {
        let wanted =
            |node: &str, start, replicas| Spec { replicas, ordinals: Ordinals { start } }.wants("sluice", &name(node));
        assert!(wanted("sluice-2", 0, 3) && !wanted("sluice-3", 0, 3) && !wanted("sluice-10", 0, 3));
        assert!(wanted("sluice-0", 0, 0) && wanted("sluice-7", 0, 0));
        assert!(wanted("sluice-7", 5, 3) && !wanted("sluice-8", 5, 3) && !wanted("sluice-4", 5, 3));
        // Others' pods, and nodes outside of Kubernetes.
        assert!(wanted("sluice-b-9", 0, 1) && wanted("other-9", 0, 1) && wanted("sluice", 0, 1));
    }

    #[test]
    fn of_the_unwanted_the_highest_goes_first() {
        let member =
            |node: &str| Heard { owner: Owner { node: name(node), generation: Generation(1) }, is_alive: false };
        let spec = Spec { replicas: 3, ordinals: Ordinals::default() };
        let members = ["sluice-3", "sluice-2", "sluice-10", "sluice-9"].map(member).to_vec();
        assert_eq!(unwanted("sluice", &spec, members), ["sluice-10", "sluice-9", "sluice-3"].map(member));
    }

    #[test]
    fn an_answer_of_the_apiserver_is_read() {
        let object = br#"{"kind":"StatefulSet","spec":{"replicas":5,"serviceName":"x"},"status":{"replicas":3}}"#;
        let read = spec(object).unwrap();
        assert_eq!((read.replicas, read.ordinals.start), (5, 0));
        assert_eq!(spec(br#"{"spec":{"replicas":5,"ordinals":{"start":7}}}"#).unwrap().ordinals.start, 7);
        assert!(spec(br#"{"kind":"Status","code":403}"#).err().unwrap().to_string().contains("spec"));
    }
}
