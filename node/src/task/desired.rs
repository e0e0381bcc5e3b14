//! What this node should be running, read from the coordinator's state and from what the node itself has said since. PURE.

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

/// What the node itself knows of one of its shards, in the present epoch. What the leader has told may be older than the node's own
/// last word, and nobody else has a say in that epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// The revision that the session at the broker belongs to; none: there is no session.
    pub opened: Option<Revision>,
    /// Its last task's word is in the log: the shard is given back.
    pub is_released: bool,
    /// Likewise: its session is ended.
    pub is_retired: bool,
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

/// Every task that `me` should run; `own` tells what the node knows of a shard in this epoch. A shard of a paused pipeline is not among
/// them, nor one that is being handed over: it is stopped and given back. Nor is one that was given back or has ended its session,
/// though the leader may not have told so yet.
pub fn desired(state: &State, me: &Owner, own: impl Fn(&ShardId, Epoch) -> Option<Own>) -> BTreeMap<ShardId, Desired> {
    let is_mine = |shard: &Shard| shard.owner.as_ref() == Some(me) && shard.handover.is_none();
    let mine = state.shards.iter().filter(|(_, shard)| is_mine(shard));
    mine.filter_map(|(id, shard)| {
        let pipeline = state.pipelines.get(&id.pipeline)?;
        let own = own(id, shard.epoch).unwrap_or_else(|| Own::told(shard));
        if own.is_released {
            return None;
        }
        let opened = own.opened.unwrap_or(pipeline.revision);
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
        let is_over = own.is_retired && purpose != Purpose::Run;
        (!is_over).then(|| (id.clone(), Desired { epoch: shard.epoch, purpose, revision }))
    })
    .collect()
}

/// Shards of `me` that are to be given back: to another node, or to rest while their pipeline is paused.
pub fn leaving<'a>(state: &'a State, me: &'a Owner) -> impl Iterator<Item = (&'a ShardId, &'a Shard)> {
    let is_paused = |id: &ShardId| state.pipelines.get(&id.pipeline).is_some_and(|p| p.state == PipelineState::Paused);
    let is_leaving = move |id: &ShardId, shard: &Shard| shard.handover.is_some() || is_paused(id);
    state.shards.iter().filter(move |(id, shard)| shard.owner.as_ref() == Some(me) && is_leaving(id, shard))
}

/// What the task of `shard` starts from. `last`: the node's own last word of it in this epoch.
pub fn background(state: &State, id: &ShardId, desired: &Desired, last: Option<&Checkpoint>) -> Option<Background> {
    let spec = state.pipelines.get(&id.pipeline)?.spec_at(desired.revision)?.clone();
    let (session, checkpoint) = match last {
        Some(last) => (last.session.clone(), Some(last.clone())),
        None => (state.shards.get(id)?.session.clone(), state.checkpoints.get(id).cloned()),
    };
    Some(Background { spec, session, checkpoint })
}

impl Own {
    /// As the leader has told it.
    fn told(shard: &Shard) -> Self {
        let opened = shard.session.as_ref().map(|session| session.revision);
        Self { opened, is_released: false, is_retired: false }
    }
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

    /// Pipeline `readings` of one shard, `revision` 2, whose revision 1 was at another broker.
    fn moved(me: &Owner) -> anyhow::Result<(State, ShardId)> {
        let name: sluice_coordinator::model::PipelineName = "readings".parse()?;
        let spec = |server: &str| PipelineSpec {
            name: name.clone(),
            manifest: String::new(),
            must_keep_shards: false,
            shards: std::num::NonZeroU32::MIN,
            source: SourceIdentity {
                servers: vec![server.to_owned()],
                share_group: Some("readings".to_owned()),
                client_id_prefix: "sluice-readings".to_owned(),
            },
            filters: vec!["#".to_owned()],
        };
        let pipeline = Pipeline {
            spec: spec("mqtt://new"),
            revision: Revision(2),
            state: PipelineState::Running,
            applied_at: UnixMs(0),
            earlier: BTreeMap::from([(Revision(1), spec("mqtt://old"))]),
        };
        let session = Some(Session { revision: Revision(1), filters: vec!["#".to_owned()], is_open: true });
        let mut state = State::default();
        let id = ShardId::new(&name, 0);
        state.shards.insert(id.clone(), Shard { session, ..shard(me) });
        state.pipelines.insert(name, pipeline);
        Ok((state, id))
    }

    /// The leader tells what the node said only after a while, and meanwhile nothing must be done twice.
    #[test]
    fn what_the_node_has_said_counts_before_what_it_was_told() -> anyhow::Result<()> {
        let me = Owner { node: "a".parse()?, generation: Generation(2) };
        let (mut state, id) = moved(&me)?;
        let wanted = |state: &State, own: Option<Own>| {
            let desired = desired(state, &me, |_, _| own);
            desired.get(&id).map(|desired| (desired.purpose, desired.revision.0))
        };
        let own = |opened: Option<u64>| Own { opened: opened.map(Revision), is_released: false, is_retired: false };
        assert_eq!(wanted(&state, None), Some((Purpose::Retire, 1)));
        let retired = Own { is_retired: true, ..own(None) };
        assert_eq!(wanted(&state, Some(retired)), Some((Purpose::Run, 2)), "the old session is ended");
        assert_eq!(wanted(&state, Some(own(Some(2)))), Some((Purpose::Run, 2)));
        assert_eq!(wanted(&state, Some(Own { is_released: true, ..own(Some(1)) })), None);
        for ending in [PipelineState::Deleting, PipelineState::Discarding] {
            state.pipelines.values_mut().for_each(|pipeline| pipeline.state = ending);
            assert_eq!(wanted(&state, Some(retired)), None);
            assert!(wanted(&state, None).is_some());
        }
        Ok(())
    }

    #[test]
    fn a_shard_on_its_way_is_stopped_and_a_retiring_one_reads_its_session_empty() -> anyhow::Result<()> {
        let me = Owner { node: "a".parse()?, generation: Generation(2) };
        let before = Owner { generation: Generation(1), ..me.clone() };
        let name = "readings".parse()?;
        let spec = PipelineSpec {
            name: "readings".parse()?,
            manifest: String::new(),
            must_keep_shards: false,
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
        let desired = desired(&state, &me, |_, _| None);
        let purposes: Vec<_> = desired.iter().map(|(id, desired)| (id.index, desired.purpose)).collect();
        assert_eq!(purposes, [(0, Purpose::Run), (2, Purpose::Retire)]);
        assert_eq!(leaving(&state, &me).map(|(id, _)| id.index).collect::<Vec<_>>(), [1]);
        Ok(())
    }
}
