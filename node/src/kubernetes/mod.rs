//! The StatefulSet that this node's pod is of: its `spec.replicas` say which nodes there are to be.
//!
//! A pod is told to stop in the same way whether it is to come back or not. So a node that stops asks: one whose ordinal is beyond the replicas
//! leaves the cluster for good. One that could not, since it died or was killed first, is removed by the leader. And one whose disk was
//! removed, and that is to be there all the same, comes back with an empty one.
//!
//! No replicas at all is no wish to be without a cluster: all stop, as members, and come back.

mod api;

use std::{cmp::Reverse, convert::Infallible, time::Duration};

use serde::Deserialize;
use sluice_coordinator::{
    Coordinator,
    machine::{Outcome, RemoveMember},
    model::NodeName,
};
use tokio::time::sleep;

use crate::config::{self, ConfigErrors};
use api::Api;
pub(crate) use api::ApiError;

/// Between two looks of a leader at who is absent. The apiserver is asked only if somebody is.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// See the file's head.
#[derive(Debug, Clone)]
pub(crate) struct StatefulSet {
    api: Api,
    name: String,
}

#[derive(Deserialize)]
struct Object {
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    /// The apiserver fills in 1 where a manifest says nothing.
    replicas: u32,
}

impl StatefulSet {
    /// The one that the configuration names; None: it names none.
    ///
    /// # Errors
    /// This process runs in no pod that may ask for it.
    pub(crate) fn of(config: &config::Node) -> Result<Option<Self>, ConfigErrors> {
        let Some(name) = &config.kubernetes_statefulset else { return Ok(None) };
        match Api::of_pod() {
            Ok(api) => Ok(Some(Self { api, name: name.clone() })),
            Err(error) => Err(ConfigErrors::whole("kubernetes_statefulset", error.to_string())),
        }
    }

    /// Whether there is to be a node of this name. One that is no pod's of this StatefulSet is none of its business.
    ///
    /// # Errors
    /// The apiserver did not say.
    pub(crate) async fn wants(&self, node: &NodeName) -> Result<bool, ApiError> {
        Ok(is_wanted(&self.name, node, self.replicas().await?))
    }

    async fn replicas(&self) -> Result<u32, ApiError> {
        let Self { api, name } = self;
        let path = format!("/apis/apps/v1/namespaces/{}/statefulsets/{name}", api.namespace);
        replicas(&api.get(&path).await?)
    }

    /// While this node leads: removes members that are absent and not wanted any more, the highest first, for ever.
    pub(crate) async fn remove_absent(&self, coordinator: &Coordinator) -> Infallible {
        loop {
            sleep(LOOK_EVERY).await;
            let absent = coordinator.absent();
            if absent.is_empty() {
                continue;
            }
            match self.replicas().await {
                Ok(replicas) => {
                    for node in unwanted(&self.name, absent, replicas) {
                        remove(coordinator, node, replicas).await;
                    }
                }
                Err(error) => tracing::warn!(?absent, "it is not known whether absent nodes are to come back: {error}"),
            }
        }
    }
}

async fn remove(coordinator: &Coordinator, node: NodeName, replicas: u32) {
    match coordinator.propose(RemoveMember { name: node.clone(), force: true }).await {
        Ok(Outcome::Member { .. }) => {
            tracing::info!(%node, replicas, "removed: it is absent, and beyond the StatefulSet's replicas");
        }
        // It is absent in the next look too, if it is to be.
        Ok(other) => tracing::warn!(%node, "not removed: {other:?}"),
        Err(error) => tracing::warn!(%node, "not removed yet: {error}"),
    }
}

/// Of those, which there are not to be, the highest first.
fn unwanted(statefulset: &str, mut nodes: Vec<NodeName>, replicas: u32) -> Vec<NodeName> {
    nodes.retain(|node| !is_wanted(statefulset, node, replicas));
    nodes.sort_by_key(|node| Reverse(node.ordinal()));
    nodes
}

fn is_wanted(statefulset: &str, node: &NodeName, replicas: u32) -> bool {
    replicas == 0 || ordinal(statefulset, node).is_none_or(|ordinal| ordinal < replicas)
}

/// A pod's number in its StatefulSet: `sluice-2` is number 2 of `sluice`.
pub(crate) fn ordinal(statefulset: &str, node: &NodeName) -> Option<u32> {
    let (prefix, _) = node.as_str().rsplit_once('-')?;
    node.ordinal().filter(|_| prefix == statefulset)
}

fn replicas(object: &[u8]) -> Result<u32, ApiError> {
    let object: Object = serde_json::from_slice(object).map_err(|error| ApiError::Answer(error.to_string()))?;
    Ok(object.spec.replicas)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn name(name: &str) -> NodeName {
        name.parse().unwrap()
    }

    #[test]
    fn replicas_say_who_is_wanted_and_none_is_not_nobody() {
        let wanted = |node: &str, replicas| is_wanted("sluice", &name(node), replicas);
        assert!(wanted("sluice-2", 3) && !wanted("sluice-3", 3) && !wanted("sluice-10", 3));
        assert!(wanted("sluice-0", 0) && wanted("sluice-7", 0));
        // Others' pods, and nodes outside of Kubernetes.
        assert!(wanted("sluice-b-9", 1) && wanted("other-9", 1) && wanted("sluice", 1));
    }

    #[test]
    fn of_the_absent_the_highest_goes_first() {
        let absent = ["sluice-10", "sluice-2", "sluice-3", "sluice-9", "other-11"].map(name).to_vec();
        assert_eq!(unwanted("sluice", absent, 3), ["sluice-10", "sluice-9", "sluice-3"].map(name));
    }

    #[test]
    fn an_answer_of_the_apiserver_is_read() {
        let object = br#"{"kind":"StatefulSet","spec":{"replicas":5,"serviceName":"x"},"status":{"replicas":3}}"#;
        assert_eq!(replicas(object).unwrap(), 5);
        assert!(replicas(br#"{"kind":"Status","code":403}"#).unwrap_err().to_string().contains("spec"));
    }
}
