//! Pipelines and their specs.

use std::num::NonZeroU32;

use sluice_proto::state::v1 as pb;

use super::{DecodeError, required};
use crate::model::{Pipeline, PipelineSpec, PipelineState, Revision, SourceIdentity, UnixMs};

impl From<&PipelineSpec> for pb::PipelineSpec {
    fn from(spec: &PipelineSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            shards: spec.shards.get(),
            source: Some(pb::SourceIdentity {
                servers: spec.source.servers.clone(),
                share_group: spec.source.share_group.clone().unwrap_or_default(),
                client_id_prefix: spec.source.client_id_prefix.clone(),
            }),
            filters: spec.filters.clone(),
            manifest: spec.manifest.clone(),
            must_keep_shards: spec.must_keep_shards,
        }
    }
}

impl TryFrom<pb::PipelineSpec> for PipelineSpec {
    type Error = DecodeError;

    fn try_from(spec: pb::PipelineSpec) -> Result<Self, DecodeError> {
        let source = required(spec.source, "pipeline source")?;
        Ok(Self {
            name: spec.name.parse()?,
            shards: required(NonZeroU32::new(spec.shards), "pipeline shard count")?,
            source: SourceIdentity {
                servers: source.servers,
                share_group: Some(source.share_group).filter(|group| !group.is_empty()),
                client_id_prefix: source.client_id_prefix,
            },
            filters: spec.filters,
            manifest: spec.manifest,
            must_keep_shards: spec.must_keep_shards,
        })
    }
}

impl From<&Pipeline> for pb::Pipeline {
    fn from(pipeline: &Pipeline) -> Self {
        let earlier = pipeline.earlier.iter();
        Self {
            spec: Some((&pipeline.spec).into()),
            revision: pipeline.revision.0,
            state: pb::PipelineState::from(pipeline.state).into(),
            applied_at_unix_ms: pipeline.applied_at.0,
            earlier: earlier
                .map(|(revision, spec)| pb::RevisedSpec { revision: revision.0, spec: Some(spec.into()) })
                .collect(),
        }
    }
}

impl TryFrom<pb::Pipeline> for Pipeline {
    type Error = DecodeError;

    fn try_from(pipeline: pb::Pipeline) -> Result<Self, DecodeError> {
        let state = pipeline.state().try_into()?;
        let earlier = pipeline.earlier.into_iter();
        Ok(Self {
            revision: Revision(pipeline.revision),
            state,
            applied_at: UnixMs(pipeline.applied_at_unix_ms),
            earlier: earlier
                .map(|e| Ok((Revision(e.revision), required(e.spec, "earlier spec")?.try_into()?)))
                .collect::<Result<_, DecodeError>>()?,
            spec: required(pipeline.spec, "pipeline spec")?.try_into()?,
        })
    }
}

impl From<PipelineState> for pb::PipelineState {
    fn from(state: PipelineState) -> Self {
        match state {
            PipelineState::Running => Self::Running,
            PipelineState::Paused => Self::Paused,
            PipelineState::Deleting => Self::Deleting,
            PipelineState::Discarding => Self::Discarding,
        }
    }
}

impl TryFrom<pb::PipelineState> for PipelineState {
    type Error = DecodeError;

    fn try_from(state: pb::PipelineState) -> Result<Self, DecodeError> {
        Ok(match state {
            pb::PipelineState::Unspecified => return Err(DecodeError::Field("pipeline state")),
            pb::PipelineState::Running => Self::Running,
            pb::PipelineState::Paused => Self::Paused,
            pb::PipelineState::Deleting => Self::Deleting,
            pb::PipelineState::Discarding => Self::Discarding,
        })
    }
}
