//! Who wants something of the cluster: says what it is to be, again and again until it is.

use sluice_coordinator::{
    machine::{
        ApplyPipeline, Command, DeletePipeline, Kind, PausePipeline, ResumePipeline, SetMemberState, StartMoves,
    },
    model::{Generation, MemberState, NodeName, Owner, PipelineState, ShardId},
};

use crate::{
    around::Around,
    node::name,
    raft::Asker,
    setup::{Ms, pipeline},
};

const SAYS_EVERY: Ms = 300;

/// What the operator wants.
#[derive(Debug, Clone)]
pub(crate) struct Operator {
    pub(crate) shards: u32,
    pub(crate) group: u32,
    pub(crate) is_wide: bool,
    pub(crate) is_paused: bool,
    /// True: with what its sessions hold.
    pub(crate) deletes: Option<bool>,
    pub(crate) drained: Option<usize>,
    /// Once.
    pub(crate) moves: Option<(u32, usize)>,
    /// Once, as the process that stops says it of itself.
    pub(crate) stops: Option<Owner>,
    says_at: Ms,
}

impl Operator {
    pub(crate) fn new(shards: u32) -> Self {
        Self {
            shards,
            group: 0,
            is_wide: true,
            is_paused: false,
            deletes: None,
            drained: None,
            moves: None,
            stops: None,
            says_at: 0,
        }
    }

    pub(crate) fn step(&mut self, around: &mut Around) {
        if around.now < self.says_at {
            return;
        }
        self.says_at = around.now + SAYS_EVERY;
        let Some(leader) = around.raft.leader else { return };
        for kind in self.wishes(around) {
            let command = Command { proposed_at: around.setup.clock.unix(around.now), kind };
            around.raft.write(leader, Asker::Operator, command, around.now, &mut around.chance);
        }
    }

    /// Everything is as it was wanted.
    pub(crate) fn is_content(&mut self, around: &Around) -> bool {
        self.wishes(around).is_empty()
    }

    fn wishes(&mut self, around: &Around) -> Vec<Kind> {
        let (state, name_of) = (&around.raft.state, pipeline());
        let mut wishes: Vec<Kind> = Vec::new();
        let spec = around.setup.spec(self.shards, self.group, self.is_wide);
        match (state.pipelines.get(&name_of), self.deletes) {
            (None, Some(_)) => self.deletes = None,
            (None, None) => wishes.push(ApplyPipeline { spec }.into()),
            (Some(now), Some(discard)) if !now.state.is_ending() => {
                wishes.push(DeletePipeline { name: name_of, discard }.into());
            }
            // Before it is gone it cannot be applied again. Asking changes nothing, and nobody is content yet.
            (Some(now), _) if now.state.is_ending() => wishes.push(ApplyPipeline { spec }.into()),
            (Some(now), _) => {
                if now.spec != spec {
                    wishes.push(ApplyPipeline { spec }.into());
                }
                match (now.state, self.is_paused) {
                    (PipelineState::Running, true) => wishes.push(PausePipeline { name: name_of }.into()),
                    (PipelineState::Paused, false) => wishes.push(ResumePipeline { name: name_of }.into()),
                    _ => {}
                }
            }
        }
        for (node, member) in &state.members {
            let is_drained = self.drained.map(name).as_ref() == Some(node);
            match member.state {
                MemberState::Active if is_drained => wishes.push(set(node, MemberState::Draining, None)),
                MemberState::Draining if !is_drained => wishes.push(set(node, MemberState::Active, None)),
                _ => {}
            }
        }
        wishes.extend(self.stops.take().map(|me| set(&me.node, MemberState::Stopping, Some(me.generation))));
        let moves = self.moves.take().map(|(index, to)| (ShardId::new(&pipeline(), index), name(to)));
        wishes.extend(moves.map(|to| StartMoves { moves: vec![to] }.into()));
        wishes
    }
}

fn set(node: &NodeName, state: MemberState, generation: Option<Generation>) -> Kind {
    SetMemberState { name: node.clone(), state, generation }.into()
}
