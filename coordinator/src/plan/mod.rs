//! The planner: state in, commands out that lead to the desired assignments. Pure; the goals are in the crate's README.
//!
//! Deterministic: the same state gives the same commands. It converges: applying what it says leaves it nothing to say.

mod balance;

use crate::{
    machine::{AssignShards, Command, Kind, ShardAssignment},
    model::{MemberState, Owner, PipelineState, Shard, ShardId, State, UnixMs},
};

/// Most assignments in one command, so that a log entry stays well below 1 MiB.
pub const ASSIGNMENTS_PER_COMMAND_MAX: usize = 1_000;

/// Computes what has to be proposed, now, for every shard to have the owner it should have.
pub fn plan(state: &State, now: UnixMs) -> Vec<Command> {
    let mut nodes = balance::Nodes::active(state);
    let mut homeless = Vec::new();
    for (id, shard) in &state.shards {
        if let Some(owner) = shard.owner.as_ref().filter(|owner| is_well(state, owner)) {
            nodes.add(&owner.node);
        } else if wants_owner(state, id) {
            homeless.push((id, shard));
        }
    }
    let assignments: Vec<_> = place(&mut nodes, &homeless);
    let chunks = assignments.chunks(ASSIGNMENTS_PER_COMMAND_MAX);
    let command = |chunk: &[ShardAssignment]| Kind::from(AssignShards { assignments: chunk.to_vec() });
    chunks.map(|chunk| Command { proposed_at: now, kind: command(chunk) }).collect()
}

/// Whether the owner is alive in the generation that the shard was given to. A draining member keeps what it has.
fn is_well(state: &State, owner: &Owner) -> bool {
    let member = state.members.get(&owner.node);
    member.is_some_and(|member| member.generation == owner.generation && member.state != MemberState::Gone)
}

/// A shard of a paused pipeline gets no owner: there is nothing for it to do, and its session waits at the broker.
fn wants_owner(state: &State, id: &ShardId) -> bool {
    state.pipelines.get(&id.pipeline).is_some_and(|pipeline| pipeline.state != PipelineState::Paused)
}

/// Goal C before B where they meet: a shard goes back to the node it was on while that node is not above its fair share.
fn place(nodes: &mut balance::Nodes<'_>, homeless: &[(&ShardId, &Shard)]) -> Vec<ShardAssignment> {
    let fair = nodes.fair_share(homeless.len());
    let mut placed = Vec::with_capacity(homeless.len());
    let mut rest = Vec::new();
    for (id, shard) in homeless {
        let back = shard.owner.as_ref().and_then(|owner| nodes.take_back(&owner.node, fair));
        match back {
            Some(owner) => placed.push(ShardAssignment { shard: (*id).clone(), owner }),
            None => rest.push(*id),
        }
    }
    for id in rest {
        let Some(owner) = nodes.least_loaded() else { break };
        placed.push(ShardAssignment { shard: id.clone(), owner });
    }
    placed.sort_by(|a, b| a.shard.cmp(&b.shard));
    placed
}
