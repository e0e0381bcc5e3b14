//! Manifests and producer configurations as tasks run them: thousands of shards of a pipeline share one of each, with its compiled mapping.
//!
//! Secrets and certificates are read for each task, as one that starts again after somebody has renewed them must find them new; what was read
//! is shared where it is the same.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use sluice_coordinator::model::{PipelineName, PipelineSpec, Revision};

use crate::config::{
    ConfigErrors, Manifest,
    kafka::{ProducerConfig, WeakProducerConfig},
};

/// What is in use.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    manifests: BTreeMap<(PipelineName, Revision), Weak<Manifest>>,
    producers: Vec<WeakProducerConfig>,
}

impl Prepared {
    /// The manifest of `spec`, which is `revision` of its pipeline.
    pub(crate) fn manifest(&mut self, spec: &PipelineSpec, revision: Revision) -> Result<Arc<Manifest>, ConfigErrors> {
        self.manifests.retain(|_, manifest| manifest.strong_count() > 0);
        let key = (spec.name.clone(), revision);
        // A pipeline that was deleted and made anew counts its revisions from the start.
        let known = self.manifests.get(&key).and_then(Weak::upgrade).filter(|known| known.document() == spec.manifest);
        if let Some(known) = known {
            return Ok(known);
        }
        let origin = format!("pipeline {} revision {revision}", spec.name);
        let manifest = Arc::new(Manifest::parse(&spec.manifest, &origin)?);
        self.manifests.insert(key, Arc::downgrade(&manifest));
        Ok(manifest)
    }

    /// A clone of the configuration that is equal and in use, or else `read` itself.
    pub(crate) fn producer(&mut self, read: ProducerConfig) -> ProducerConfig {
        self.producers.retain(|known| known.upgrade().is_some());
        if let Some(known) = self.producers.iter().filter_map(WeakProducerConfig::upgrade).find(|known| *known == read)
        {
            return known;
        }
        self.producers.push(read.downgrade());
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ClusterName, SecretRoots};

    fn spec(topic: &str) -> anyhow::Result<PipelineSpec> {
        let text = format!(
            "{{name: p, source: {{mqtt: {{servers: ['mqtt://h'], topics: [a]}}}}, default_topic: {topic}, sink: {{kafka: {{bootstrap.servers: 'k:9092'}}}}}}"
        );
        let cluster: ClusterName = "sluice".parse().map_err(anyhow::Error::msg)?;
        Ok(Manifest::parse(&text, "test")?.spec(&cluster))
    }

    #[test]
    fn shards_share_a_manifest_while_one_of_them_runs_and_it_is_the_same() -> anyhow::Result<()> {
        let mut prepared = Prepared::default();
        let first = prepared.manifest(&spec("t")?, Revision(1))?;
        assert!(Arc::ptr_eq(&first, &prepared.manifest(&spec("t")?, Revision(1))?));
        let next = prepared.manifest(&spec("u")?, Revision(2))?;
        assert!(!Arc::ptr_eq(&first, &next));
        let anew = prepared.manifest(&spec("v")?, Revision(1))?;
        assert_eq!(anew.document(), spec("v")?.manifest);
        drop((first, next, anew));
        prepared.manifest(&spec("t")?, Revision(3))?;
        assert_eq!(prepared.manifests.len(), 1, "what nobody runs is not kept");
        Ok(())
    }

    #[test]
    fn shards_share_a_producer_configuration_while_it_is_the_same() -> anyhow::Result<()> {
        let mut prepared = Prepared::default();
        let read = |kafka: &str| {
            let manifest = spec("t")?.manifest.replace("k:9092", kafka);
            anyhow::Ok(Manifest::parse(&manifest, "test")?.resolve(&SecretRoots::new(Vec::new()))?.producer)
        };
        let first = prepared.producer(read("k:9092")?);
        let (second, other) = (prepared.producer(read("k:9092")?), prepared.producer(read("l:9092")?));
        assert!(first.is_clone_of(&second) && !first.is_clone_of(&other));
        drop((first, second, other));
        prepared.producer(read("k:9092")?);
        assert_eq!(prepared.producers.len(), 1, "what nobody runs is not kept");
        Ok(())
    }
}
