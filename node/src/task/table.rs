//! Which tasks this node has, and what is to be done about them: what the leader has told and what has ended in, steps out. PURE.
//!
//! Each entry keeps what its owner needs of a task (`T`). What the node itself has said last of a shard counts before what the leader has
//! told: a shard is given back once, and a session that was ended is not opened again by an older word.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use sluice_coordinator::model::{Checkpoint, Epoch, Owner, Revision, ShardId, State, TaskState, UnixMs};

use super::{
    desired::{Desired, Own, desired, leaving},
    lifecycle::{Action, Phase, RETRY_LONGEST, action, retry_after},
};
use crate::{lane::course::End, pipeline::checkpoint::take, registry::Task};

/// What the table asks of what is held of a task.
pub trait Live {
    /// The revision of the session that the task has now.
    fn opened(&self) -> Option<Revision>;
    /// The task's word as it is at `at`.
    fn word(&self, at: UnixMs) -> Checkpoint;
}

impl Live for Arc<Task> {
    fn opened(&self) -> Option<Revision> {
        Task::opened(self)
    }

    fn word(&self, at: UnixMs) -> Checkpoint {
        take(self, false, at)
    }
}

/// The tasks of a node.
#[derive(Debug)]
pub struct Table<T> {
    me: Owner,
    entries: BTreeMap<ShardId, Entry<T>>,
    /// Last words of tasks that have ended, until the leader tells of another epoch: it tells them only to other owners.
    said: BTreeMap<ShardId, Checkpoint>,
    /// Entries made so far.
    made: u64,
}

/// One task.
#[derive(Debug)]
pub struct Entry<T> {
    /// What it runs as.
    pub desired: Desired,
    /// Where it is.
    pub phase: Phase,
    /// Its owner's.
    pub held: T,
    /// Never given twice.
    pub number: u64,
    /// The revision of the session that the task began with.
    opened: Option<Revision>,
    started_at: Instant,
    /// In a row.
    failures: u32,
}

/// What to do about a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Start a task, and [`Table::insert`] it.
    Start(Desired),
    /// Tell the task to stop, and [`Table::stopping`].
    Stop,
    /// It is not running here: give it back as it came or was left, and [`Table::insert`] that.
    GiveBack,
    /// The task has failed: give the shard back, and [`Table::stopping`].
    Release,
}

/// A last word to be said of a task that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastWord {
    /// With it the shard is given back.
    pub is_release: bool,
}

impl<T: Live> Table<T> {
    /// Of a node that has no tasks.
    pub fn new(me: Owner) -> Self {
        Self { me, entries: BTreeMap::new(), said: BTreeMap::new(), made: 0 }
    }

    /// What is to be done after the leader has told `part`. Changes nothing but what is known of last words.
    pub fn steps(&mut self, part: &State, is_leased: bool, now: Instant) -> Vec<(ShardId, Step)> {
        self.said.retain(|id, last| part.shards.get(id).is_some_and(|shard| shard.epoch == last.epoch));
        let desired = self.desired(part);
        let is_here = |id: &ShardId, epoch| {
            self.entries.contains_key(id) || self.said.get(id).is_some_and(|last| last.epoch == epoch && last.released)
        };
        let leaving = leaving(part, &self.me).filter(|(id, shard)| !is_here(id, shard.epoch));
        let mut steps: Vec<_> = leaving.map(|(id, _)| (id.clone(), Step::GiveBack)).collect();
        let others = self.entries.keys().filter(|shard| !desired.contains_key(*shard));
        for shard in desired.keys().chain(others) {
            let wanted = desired.get(shard);
            let has = self.entries.get(shard).map(|entry| (&entry.desired, &entry.phase));
            let step = match (action(wanted, has, is_leased, now), wanted) {
                (Action::Start, Some(wanted)) => Step::Start(wanted.clone()),
                (Action::Stop, _) => Step::Stop,
                (Action::Release, _) => Step::Release,
                _ => continue,
            };
            steps.push((shard.clone(), step));
        }
        steps
    }

    /// The node's own last word of a shard that has no running task, in this epoch: what a new one goes on from.
    pub fn last_word(&self, shard: &ShardId, epoch: Epoch, at: UnixMs) -> Option<Checkpoint> {
        // A failed task's word may still be on its way.
        let failed = self.entries.get(shard).filter(|failed| failed.desired.epoch == epoch);
        let last = || self.said.get(shard).filter(|last| last.epoch == epoch).cloned();
        failed.map(|failed| failed.held.word(at)).or_else(last)
    }

    /// The shard has a task now, in place of one that had failed. Returns its number.
    pub fn insert(&mut self, shard: &ShardId, desired: Desired, phase: Phase, held: T, now: Instant) -> u64 {
        let failures = self.entries.remove(shard).map_or(0, |entry| entry.failures);
        self.made += 1;
        let opened = held.opened();
        let entry = Entry { desired, phase, held, number: self.made, opened, started_at: now, failures };
        self.entries.insert(shard.clone(), entry);
        self.made
    }

    /// The task is on its way out.
    pub fn stopping(&mut self, shard: &ShardId) {
        if let Some(entry) = self.entries.get_mut(shard) {
            entry.phase = Phase::Stopping;
        }
    }

    /// The task could not be started, or has ended by failing.
    pub fn failed(&mut self, shard: &ShardId, may_pass: bool, now: Instant) {
        if let Some(entry) = self.entries.get_mut(shard) {
            entry.fail(may_pass, now);
        }
    }

    /// The task that ran under `epoch` has ended. Some: what is to be said of it.
    pub fn ended(&mut self, shard: &ShardId, epoch: Epoch, end: &End, part: &State, now: Instant) -> Option<LastWord> {
        let entry = self.entries.get_mut(shard).filter(|entry| entry.desired.epoch == epoch)?;
        let is_release = match end {
            End::Failed { may_pass } if entry.phase == Phase::Running => {
                entry.fail(*may_pass, now);
                false
            }
            End::Retired => {
                entry.phase = Phase::Retired;
                false
            }
            // A task that was restarted in place, for a new revision say, keeps its shard.
            End::Stopped { .. } | End::Failed { .. } => {
                // Nor does one that ended by itself, since its permit was taken away, and may be given another.
                entry.phase = Phase::Stopping;
                !self.desired(part).contains_key(shard)
            }
        };
        Some(LastWord { is_release })
    }

    /// The last word of task `number` is in the log as `recorded`; none: it need not be any more. True: the task is forgotten.
    pub fn said(&mut self, shard: &ShardId, number: u64, recorded: Option<Checkpoint>) -> bool {
        if let Some(checkpoint) = recorded {
            self.said.insert(shard.clone(), checkpoint);
        }
        let is_over =
            |entry: &Entry<T>| entry.number == number && matches!(entry.phase, Phase::Stopping | Phase::Retired);
        let is_over = self.entries.get(shard).is_some_and(is_over);
        if is_over {
            self.entries.remove(shard);
        }
        is_over
    }

    /// The task of `shard`.
    pub fn get(&self, shard: &ShardId) -> Option<&Entry<T>> {
        self.entries.get(shard)
    }

    /// As [`get`](Self::get), to change what is held.
    pub fn get_mut(&mut self, shard: &ShardId) -> Option<&mut Entry<T>> {
        self.entries.get_mut(shard)
    }

    /// Every task.
    pub fn iter(&self) -> impl Iterator<Item = (&ShardId, &Entry<T>)> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// None there?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn desired(&self, part: &State) -> BTreeMap<ShardId, Desired> {
        desired(part, &self.me, |shard, epoch| self.own(shard, epoch))
    }

    fn own(&self, shard: &ShardId, epoch: Epoch) -> Option<Own> {
        if let Some(entry) = self.entries.get(shard).filter(|entry| entry.desired.epoch == epoch) {
            // One that has just ended its session has not said so yet.
            let opened = entry.held.opened().or(entry.opened);
            return Some(Own { opened, is_released: false, is_retired: false });
        }
        let last = self.said.get(shard).filter(|last| last.epoch == epoch)?;
        Some(Own {
            opened: last.session.as_ref().map(|session| session.revision),
            is_released: last.released,
            is_retired: last.status.state == TaskState::Retired,
        })
    }
}

impl<T> Entry<T> {
    fn fail(&mut self, may_pass: bool, now: Instant) {
        let lived = now.saturating_duration_since(self.started_at);
        self.failures = if lived >= RETRY_LONGEST { 1 } else { self.failures + 1 };
        self.phase = Phase::Failed { again_at: may_pass.then(|| now + retry_after(self.failures)) };
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sluice_coordinator::model::{
        Generation, Handover, Pipeline, PipelineSpec, PipelineState, Session, Shard, SourceIdentity, TaskState,
    };

    use super::*;
    use crate::lane::course::Purpose;

    /// A shard of `me` at epoch 1, of a pipeline of one filter whose revision is 1.
    fn part(me: &Owner) -> anyhow::Result<(State, ShardId)> {
        let source = SourceIdentity {
            servers: vec!["mqtt://broker".to_owned()],
            share_group: None,
            client_id_prefix: "sluice-readings".to_owned(),
        };
        let spec = PipelineSpec {
            name: "readings".parse()?,
            shards: NonZeroU32::MIN,
            source,
            filters: vec!["#".to_owned()],
            manifest: String::new(),
            must_keep_shards: false,
        };
        let pipeline = Pipeline {
            spec,
            revision: Revision(1),
            state: PipelineState::Running,
            applied_at: UnixMs(0),
            earlier: BTreeMap::new(),
        };
        let shard = Shard {
            owner: Some(me.clone()),
            epoch: Epoch(1),
            since: UnixMs(0),
            session: None,
            handover: None,
            is_retiring: false,
        };
        let (mut part, id) = (State::default(), ShardId::new(&"readings".parse()?, 0));
        part.pipelines.insert(id.pipeline.clone(), pipeline);
        part.shards.insert(id.clone(), shard);
        Ok((part, id))
    }

    fn me() -> anyhow::Result<Owner> {
        Ok(Owner { node: "a".parse()?, generation: Generation(1) })
    }

    fn task(shard: &ShardId) -> Arc<Task> {
        Arc::new(Task::new(shard.clone(), Epoch(1)))
    }

    #[test]
    fn a_shard_that_was_given_back_is_left_alone_until_the_leader_knows() -> anyhow::Result<()> {
        let (mut part, shard) = part(&me()?)?;
        let handover = Some(Handover { to: "b".parse()?, since: UnixMs(0) });
        part.shards.values_mut().for_each(|told| told.handover.clone_from(&handover));
        let (mut table, now) = (Table::new(me()?), Instant::now());
        assert_eq!(table.steps(&part, true, now), [(shard.clone(), Step::GiveBack)]);
        let (task, desired) = (task(&shard), Desired { epoch: Epoch(1), purpose: Purpose::Run, revision: Revision(1) });
        let number = table.insert(&shard, desired, Phase::Stopping, Arc::clone(&task), now);
        assert!(table.steps(&part, true, now).is_empty());
        assert!(table.said(&shard, number, Some(take(&task, true, UnixMs(1)))) && table.is_empty());
        assert!(table.steps(&part, true, now).is_empty(), "the part is from before it was given back");
        part.shards.values_mut().for_each(|told| told.handover = None);
        assert!(
            table.steps(&part, true, now).is_empty(),
            "nor is it started again under the epoch that it was given back in"
        );
        part.shards.values_mut().for_each(|told| told.epoch = Epoch(2));
        assert!(matches!(&table.steps(&part, true, now)[..], [(_, Step::Start(_))]));
        assert!(table.said.is_empty());
        Ok(())
    }

    #[test]
    fn a_shard_that_was_paused_before_it_ran_is_given_back() -> anyhow::Result<()> {
        let (mut part, shard) = part(&me()?)?;
        part.pipelines.values_mut().for_each(|pipeline| pipeline.state = PipelineState::Paused);
        let (mut table, now) = (Table::<Arc<Task>>::new(me()?), Instant::now());
        assert_eq!(table.steps(&part, false, now), [(shard, Step::GiveBack)]);
        Ok(())
    }

    #[test]
    fn a_retired_shard_is_not_started_again_by_what_was_told_before() -> anyhow::Result<()> {
        let (mut part, shard) = part(&me()?)?;
        part.shards.values_mut().for_each(|told| told.is_retiring = true);
        let (mut table, now) = (Table::new(me()?), Instant::now());
        let steps = table.steps(&part, true, now);
        let Some((_, Step::Start(desired))) = steps.first() else { anyhow::bail!("{steps:?}") };
        let task = task(&shard);
        let number = table.insert(&shard, desired.clone(), Phase::Running, Arc::clone(&task), now);
        let word = table.ended(&shard, Epoch(1), &End::Retired, &part, now);
        assert_eq!(word, Some(LastWord { is_release: false }));
        task.set_status(TaskState::Retired, "");
        assert!(table.said(&shard, number, Some(take(&task, false, UnixMs(1)))));
        assert!(table.steps(&part, true, now).is_empty(), "the part is from before it was retired");
        // Its pipeline goes on from another source, say.
        part.shards.values_mut().for_each(|told| told.is_retiring = false);
        assert_eq!(table.steps(&part, true, now).len(), 1);
        Ok(())
    }

    #[test]
    fn a_task_goes_on_from_the_word_of_the_one_before_it() -> anyhow::Result<()> {
        let (part, shard) = part(&me()?)?;
        let (mut table, now) = (Table::new(me()?), Instant::now());
        let desired = Desired { epoch: Epoch(1), purpose: Purpose::Run, revision: Revision(1) };
        let task = task(&shard);
        let number = table.insert(&shard, desired, Phase::Running, Arc::clone(&task), now);
        task.delivered.add(7);
        let session = Session { revision: Revision(1), filters: vec!["#".to_owned()], is_open: true };
        task.set_session(Some(session.clone()));
        table.ended(&shard, Epoch(1), &End::Failed { may_pass: true }, &part, now);
        let delivered = |last: Option<Checkpoint>| last.map(|last| (last.ledger.delivered, last.session));
        let word = Some((7, Some(session)));
        assert_eq!(delivered(table.last_word(&shard, Epoch(1), UnixMs(1))), word, "its word is on its way");
        table.stopping(&shard);
        table.said(&shard, number, Some(take(&task, false, UnixMs(1))));
        assert!(table.is_empty());
        assert_eq!(delivered(table.last_word(&shard, Epoch(1), UnixMs(2))), word, "and now in the log");
        assert_eq!(table.last_word(&shard, Epoch(2), UnixMs(2)), None);
        Ok(())
    }
}
