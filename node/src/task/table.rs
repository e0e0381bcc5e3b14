//! Which tasks this node has, and what is to be done about them: what the leader has told and what has ended in, steps out. PURE.
//!
//! Each entry keeps what its owner needs of a task (`T`). A shard is given back once: then it is left alone until the leader tells that it
//! knows.

use std::{collections::BTreeMap, time::Instant};

use sluice_coordinator::model::{Epoch, Owner, ShardId, State, TaskState};

use super::{
    desired::{Desired, desired, leaving},
    lifecycle::{Action, Phase, RETRY_LONGEST, action, retry_after},
};
use crate::lane::course::End;

/// The tasks of a node.
#[derive(Debug)]
pub struct Table<T> {
    me: Owner,
    entries: BTreeMap<ShardId, Entry<T>>,
    /// Shards given back under these epochs, until the leader tells that it knows.
    released: BTreeMap<ShardId, Epoch>,
    /// Shards whose session was ended under these epochs, likewise: started once more by an older word, a task would open another session.
    retired: BTreeMap<ShardId, Epoch>,
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
    /// It has never been started here: give it back as it came, and [`Table::insert`] that.
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

impl<T> Table<T> {
    /// Of a node that has no tasks.
    pub fn new(me: Owner) -> Self {
        Self { me, entries: BTreeMap::new(), released: BTreeMap::new(), retired: BTreeMap::new(), made: 0 }
    }

    /// What is to be done after the leader has told `part`. Changes nothing but what is known of shards given back.
    pub fn steps(&mut self, part: &State, is_leased: bool, now: Instant) -> Vec<(ShardId, Step)> {
        self.released.retain(|shard, epoch| is_at(part, shard, *epoch));
        self.retired.retain(|shard, epoch| is_at(part, shard, *epoch) && !is_told_retired(part, shard, *epoch));
        let mut desired = desired(part, &self.me);
        desired.retain(|shard, _| !self.released.contains_key(shard) && !self.retired.contains_key(shard));
        let leaving = leaving(part, &self.me);
        let leaving = leaving.filter(|shard| !self.entries.contains_key(shard) && !self.released.contains_key(shard));
        let mut steps: Vec<_> = leaving.map(|shard| (shard, Step::GiveBack)).collect();
        let unknown = desired.keys().filter(|shard| !self.entries.contains_key(*shard));
        for shard in unknown.chain(self.entries.keys()) {
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

    /// The shard has a task now, in place of one that had failed. Returns its number.
    pub fn insert(&mut self, shard: &ShardId, desired: Desired, phase: Phase, held: T, now: Instant) -> u64 {
        let failures = self.entries.remove(shard).map_or(0, |entry| entry.failures);
        self.made += 1;
        let entry = Entry { desired, phase, held, number: self.made, started_at: now, failures };
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
                !desired(part, &self.me).contains_key(shard)
            }
        };
        Some(LastWord { is_release })
    }

    /// The last word of task `number`, of this epoch, is in the log, or need not be any more. True: the task is forgotten.
    pub fn said(&mut self, shard: &ShardId, epoch: Epoch, number: u64, is_released: bool) -> bool {
        if is_released {
            self.released.insert(shard.clone(), epoch);
        }
        let is_over =
            |entry: &Entry<T>| entry.number == number && matches!(entry.phase, Phase::Stopping | Phase::Retired);
        let is_over = self.entries.get(shard).is_some_and(is_over);
        if is_over && self.entries.remove(shard).is_some_and(|entry| entry.phase == Phase::Retired) {
            self.retired.insert(shard.clone(), epoch);
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
}

impl<T> Entry<T> {
    fn fail(&mut self, may_pass: bool, now: Instant) {
        let lived = now.saturating_duration_since(self.started_at);
        self.failures = if lived >= RETRY_LONGEST { 1 } else { self.failures + 1 };
        self.phase = Phase::Failed { again_at: may_pass.then(|| now + retry_after(self.failures)) };
    }
}

fn is_at(part: &State, shard: &ShardId, epoch: Epoch) -> bool {
    part.shards.get(shard).is_some_and(|told| told.epoch == epoch)
}

fn is_told_retired(part: &State, shard: &ShardId, epoch: Epoch) -> bool {
    let told = part.checkpoints.get(shard);
    told.is_some_and(|told| told.epoch == epoch && told.status.state == TaskState::Retired)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use sluice_coordinator::model::{
        Checkpoint, Generation, Handover, Ledger, Pipeline, PipelineSpec, PipelineState, Revision, Shard,
        SourceIdentity, TaskStatus, UnixMs,
    };

    use super::*;
    use crate::lane::course::Purpose;

    #[test]
    fn a_shard_that_was_given_back_is_left_alone_until_the_leader_knows() -> anyhow::Result<()> {
        let me = Owner { node: "a".parse()?, generation: Generation(1) };
        let shard = ShardId::new(&"readings".parse()?, 0);
        let handover = Some(Handover { to: "b".parse()?, since: UnixMs(0) });
        let told = Shard {
            owner: Some(me.clone()),
            epoch: Epoch(1),
            since: UnixMs(0),
            session: None,
            handover,
            is_retiring: false,
        };
        let mut part = State::default();
        part.shards.insert(shard.clone(), told);
        let (mut table, now) = (Table::new(me), Instant::now());
        assert_eq!(table.steps(&part, true, now), [(shard.clone(), Step::GiveBack)]);
        let desired = Desired { epoch: Epoch(1), purpose: Purpose::Run, revision: Revision(1) };
        let number = table.insert(&shard, desired, Phase::Stopping, (), now);
        assert!(table.steps(&part, true, now).is_empty());
        assert!(table.said(&shard, Epoch(1), number, true) && table.is_empty());
        assert!(table.steps(&part, true, now).is_empty(), "the part is from before it was given back");
        part.shards.clear();
        table.steps(&part, true, now);
        assert!(table.released.is_empty());
        Ok(())
    }

    #[test]
    fn a_retired_shard_is_not_started_again_by_what_was_told_before() -> anyhow::Result<()> {
        let me = Owner { node: "a".parse()?, generation: Generation(1) };
        let shard = ShardId::new(&"readings".parse()?, 0);
        let mut part = part(&me, &shard)?;
        let (mut table, now) = (Table::new(me), Instant::now());
        let steps = table.steps(&part, true, now);
        let Some((_, Step::Start(desired))) = steps.first() else { anyhow::bail!("{steps:?}") };
        let number = table.insert(&shard, desired.clone(), Phase::Running, (), now);
        table.ended(&shard, Epoch(1), &End::Retired, &part, now);
        assert!(table.said(&shard, Epoch(1), number, false));
        assert!(table.steps(&part, true, now).is_empty(), "the part is from before it was retired");
        let checkpoint = Checkpoint {
            epoch: Epoch(1),
            taken_at: UnixMs(1),
            ledger: Ledger::default(),
            next_offsets: BTreeMap::new(),
            session: None,
            status: TaskStatus { state: TaskState::Retired, message: String::new() },
            released: false,
            oldest_unacked_ms: 0,
        };
        part.checkpoints.insert(shard, checkpoint);
        // Its pipeline goes on from another source, say.
        assert_eq!(table.steps(&part, true, now).len(), 1);
        Ok(())
    }

    /// Of a pipeline whose one shard is `me`'s and is retiring.
    fn part(me: &Owner, shard: &ShardId) -> anyhow::Result<State> {
        let source = SourceIdentity {
            servers: vec!["mqtt://broker".to_owned()],
            share_group: None,
            client_id_prefix: "sluice-readings".to_owned(),
        };
        let (name, filters, manifest) = (shard.pipeline.clone(), Vec::new(), String::new());
        let spec = PipelineSpec { name, shards: NonZeroU32::MIN, source, filters, manifest };
        let pipeline = Pipeline {
            spec,
            revision: Revision(1),
            state: PipelineState::Running,
            applied_at: UnixMs(0),
            earlier: BTreeMap::new(),
        };
        let told = Shard {
            owner: Some(me.clone()),
            epoch: Epoch(1),
            since: UnixMs(0),
            session: None,
            handover: None,
            is_retiring: true,
        };
        let mut part = State::default();
        part.pipelines.insert(shard.pipeline.clone(), pipeline);
        part.shards.insert(shard.clone(), told);
        Ok(part)
    }
}
