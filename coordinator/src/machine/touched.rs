//! What commands may have changed, for whoever tells others of it without looking at all there is. PURE.
//!
//! Noted is at least what has changed of members, pipelines and shards. Checkpoints are not: they come by the thousand, and nobody is
//! told of them but with a shard that is new to him.

use std::collections::BTreeSet;

use super::{Command, Kind, Outcome, RecordCheckpoints, apply};
use crate::model::{Checkpoint, NodeName, PipelineName, ShardId, State, TaskState};

/// More entries than this are as good as all: what they would save is used up by noting them.
const ENTRIES_MAX: usize = 20_000;

/// See the file's head.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Anything may have changed.
    pub is_all: bool,
    /// These members.
    pub members: BTreeSet<NodeName>,
    /// These pipelines, and any of their shards.
    pub pipelines: BTreeSet<PipelineName>,
    /// These shards.
    pub shards: BTreeSet<ShardId>,
}

impl Touched {
    /// Of a state that was put in place of another.
    pub fn all() -> Self {
        Self { is_all: true, ..Self::default() }
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// As [`apply`], noting what the command may change.
    pub fn apply(&mut self, state: &mut State, command: Command) -> Outcome {
        if self.is_all {
            return apply(state, command);
        }
        self.note(state, &command.kind);
        let kept = match &command.kind {
            Kind::RecordCheckpoints(command) => earlier_specs(state, command),
            _ => Vec::new(),
        };
        let outcome = apply(state, command);
        for (pipeline, count) in kept {
            if state.pipelines.get(&pipeline).is_none_or(|now| now.earlier.len() != count) {
                self.pipelines.insert(pipeline);
            }
        }
        if self.members.len() + self.pipelines.len() + self.shards.len() > ENTRIES_MAX {
            *self = Self::all();
        }
        outcome
    }

    fn note(&mut self, state: &State, kind: &Kind) {
        match kind {
            Kind::InitCluster(_) => *self = Self::all(),
            Kind::RegisterMember(command) => self.note_forgotten(state, &command.name),
            Kind::RemoveMember(command) => self.note_forgotten(state, &command.name),
            Kind::SetMemberState(command) => {
                self.members.insert(command.name.clone());
            }
            Kind::ApplyPipeline(command) => {
                self.pipelines.insert(command.spec.name.clone());
            }
            Kind::PausePipeline(command) => {
                self.pipelines.insert(command.name.clone());
            }
            Kind::ResumePipeline(command) => {
                self.pipelines.insert(command.name.clone());
            }
            Kind::DeletePipeline(command) => {
                self.pipelines.insert(command.name.clone());
            }
            Kind::AssignShards(command) => {
                self.shards.extend(command.assignments.iter().map(|assignment| assignment.shard.clone()));
            }
            Kind::StartMoves(command) => self.shards.extend(command.moves.iter().map(|(shard, _)| shard.clone())),
            Kind::CancelMoves(command) => self.shards.extend(command.shards.iter().cloned()),
            Kind::RecordCheckpoints(command) => {
                let changing = command.checkpoints.iter().filter(|(id, said)| may_change(state, id, said));
                self.shards.extend(changing.map(|(shard, _)| shard.clone()));
            }
        }
    }

    /// A member that starts anew or goes, and with it every move that may have to do with it.
    fn note_forgotten(&mut self, state: &State, name: &NodeName) {
        self.members.insert(name.clone());
        let moving = state.shards.iter().filter(|(_, shard)| shard.handover.is_some());
        self.shards.extend(moving.map(|(id, _)| id.clone()));
    }
}

/// Whether a checkpoint is more than one: it may change the shard's entry, or end it.
fn may_change(state: &State, id: &ShardId, said: &Checkpoint) -> bool {
    let is_last = said.released || said.status.state == TaskState::Retired;
    is_last || state.shards.get(id).is_some_and(|shard| shard.session != said.session)
}

/// How many earlier specs the pipelines keep that a proposal is about: with the last session of one it goes.
fn earlier_specs(state: &State, command: &RecordCheckpoints) -> Vec<(PipelineName, usize)> {
    let names: BTreeSet<_> = command.checkpoints.iter().map(|(shard, _)| &shard.pipeline).collect();
    let known = names.into_iter().filter_map(|name| state.pipelines.get_key_value(name));
    known.map(|(name, pipeline)| (name.clone(), pipeline.earlier.len())).collect()
}
