//! Whether a member takes shards: an operator drains or fills it, or the node itself says that it is stopping.

use super::{Outcome, Refusal};
use crate::model::{Generation, MemberState, NodeName, State, UnixMs};

/// Changes what a member is there for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMemberState {
    /// Which member.
    pub name: NodeName,
    /// Active: fill it. Draining: empty it, over its restarts. Stopping: the node says so. Gone is refused.
    pub state: MemberState,
    /// Refused unless the member is in this generation; None: whichever it is in. What a process says of itself is not to concern
    /// the one that has started under its name since.
    pub generation: Option<Generation>,
}

impl SetMemberState {
    pub(super) fn apply(self, state: &mut State, _at: UnixMs) -> Result<Outcome, Refusal> {
        if self.state == MemberState::Gone {
            return Err(Refusal::not_now(format!("node {} does not go by being told so: remove it", self.name)));
        }
        let member = state.members.get_mut(&self.name).ok_or_else(|| Refusal::no_member(&self.name))?;
        if self.generation.is_some_and(|generation| generation != member.generation) {
            return Err(Refusal::other_generation(&self.name, member.generation));
        }
        let before = (member.state, member.was_draining);
        let next = match (member.state, self.state) {
            (MemberState::Gone, _) => return Err(Refusal::member_is_gone(&self.name)),
            // What an operator has drained stays so: the node's stopping is shorter than the operator's reason.
            (MemberState::Draining, MemberState::Stopping) | (MemberState::Stopping, MemberState::Draining) => {
                (MemberState::Stopping, true)
            }
            (MemberState::Stopping, MemberState::Stopping) => before,
            (_, wanted) => (wanted, false),
        };
        (member.state, member.was_draining) = next;
        Ok(Outcome::Member { member: Box::new(member.clone()), changed: before != next })
    }
}
