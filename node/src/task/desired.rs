//! What this node should be running, read from the coordinator's state. PURE.

use std::collections::BTreeMap;

use sluice_coordinator::model::{
    Checkpoint, Epoch, Owner, PipelineSpec, PipelineState, Revision, Session, Shard, ShardId, SourceIdentity, State,
};

use crate::lane::course::Purpose;

/// A task that should run here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Of its assignment.
    pub epoch: Epoch,
    /// What for.
    pub purpose: Purpose,
    /// The revision to run with: the present one, or the one that the session to be ended belongs to.
    pub revision: Revision,
}

/// What a task needs besides, looked up when it starts.
#[derive(Debug, Clone)]
pub struct Background {
    /// The pipeline.
    pub spec: PipelineSpec,
    /// At the broker, as far as is known.
    pub session: Option<Session>,
    /// The last one.
    pub checkpoint: Option<Checkpoint>,
}

/// Every task that `me` should run. A shard of a paused pipeline is not among them, nor one that is being handed over: it is stopped
/// and given back.
pub fn desired(state: &State, me: &Owner) -> BTreeMap<ShardId, Desired> {
    let is_mine = |shard: &Shard| shard.owner.as_ref() == Some(me) && shard.handover.is_none();
    let mine = state.shards.iter().filter(|(_, shard)| is_mine(shard));
    mine.filter_map(|(id, shard)| {
        let pipeline = state.pipelines.get(&id.pipeline)?;
        let opened = shard.session.as_ref().map_or(pipeline.revision, |session| session.revision);
        let old = pipeline.spec_at(opened)?;
        let (purpose, revision) = match pipeline.state {
            PipelineState::Paused => return None,
            // The pipeline has fewer shards now, and this one's readings come first.
            PipelineState::Running if shard.is_retiring => (Purpose::Retire, opened),
            PipelineState::Running if is_same_session(&old.source, &pipeline.spec.source) => {
                (Purpose::Run, pipeline.revision)
            }
            // Readings wait in the session at the old broker or in the old group: they come first.
            PipelineState::Running | PipelineState::Deleting => (Purpose::Retire, opened),
            PipelineState::Discarding => (Purpose::Discard, opened),
        };
        Some((id.clone(), Desired { epoch: shard.epoch, purpose, revision }))
    })
    .collect()
}

/// Shards of `me` that are on their way to another node.
pub fn leaving(state: &State, me: &Owner) -> impl Iterator<Item = ShardId> {
    let leaves = |shard: &Shard| shard.owner.as_ref() == Some(me) && shard.handover.is_some();
    state.shards.iter().filter(move |(_, shard)| leaves(shard)).map(|(id, _)| id.clone())
}

/// What the task of `shard` starts from.
pub fn background(state: &State, shard: &ShardId, desired: &Desired) -> Option<Background> {
    Some(Background {
        spec: state.pipelines.get(&shard.pipeline)?.spec_at(desired.revision)?.clone(),
        session: state.shards.get(shard)?.session.clone(),
        checkpoint: state.checkpoints.get(shard).cloned(),
    })
}

/// Brokers of one cluster may come and go from the list: the session is the cluster's. It is another's when no server is left.
fn is_same_session(old: &SourceIdentity, new: &SourceIdentity) -> bool {
    old.share_group == new.share_group
        && old.client_id_prefix == new.client_id_prefix
        && old.servers.iter().any(|server| new.servers.contains(server))
}

#[cfg(test)]
mod tests {
    use sluice_coordinator::model::{Generation, Handover, Pipeline, UnixMs};

    use super::*;

    fn shard(owner: &Owner) -> Shard {
        Shard {
            owner: Some(owner.clone()),
            epoch: Epoch(3),
            since: UnixMs(0),
            session: None,
            handover: None,
            is_retiring: false,
        }
    }

    #[test]
    fn a_shard_on_its_way_is_stopped_and_a_retiring_one_reads_its_session_empty() -> anyhow::Result<()> {
        let me = Owner { node: "a".parse()?, generation: Generation(2) };
        let before = Owner { generation: Generation(1), ..me.clone() };
        let name = "readings".parse()?;
        let spec = PipelineSpec {
            name: "readings".parse()?,
            manifest: String::new(),
            shards: std::num::NonZeroU32::MIN,
            source: SourceIdentity {
                servers: vec!["mqtt://broker".to_owned()],
                share_group: Some("readings".to_owned()),
                client_id_prefix: "sluice-readings".to_owned(),
            },
            filters: vec!["#".to_owned()],
        };
        let mut state = State::default();
        let pipeline = Pipeline {
            spec,
            revision: Revision(1),
            state: PipelineState::Running,
            applied_at: UnixMs(0),
            earlier: BTreeMap::new(),
        };
        state.pipelines.insert("readings".parse()?, pipeline);
        let handover = Some(Handover { to: "b".parse()?, since: UnixMs(1) });
        for (index, shard) in
            [shard(&me), Shard { handover, ..shard(&me) }, Shard { is_retiring: true, ..shard(&me) }, shard(&before)]
                .into_iter()
                .enumerate()
        {
            state.shards.insert(ShardId::new(&name, u32::try_from(index)?), shard);
        }
        let desired = desired(&state, &me);
        let purposes: Vec<_> = desired.iter().map(|(id, desired)| (id.index, desired.purpose)).collect();
        assert_eq!(purposes, [(0, Purpose::Run), (2, Purpose::Retire)]);
        assert_eq!(leaving(&state, &me).map(|id| id.index).collect::<Vec<_>>(), [1]);
        Ok(())
    }
}
