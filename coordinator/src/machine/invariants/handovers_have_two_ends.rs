//! A shard that is being moved has an owner, and goes to another member that has not left.

use super::{Broken, ensure};
use crate::model::{MemberState, State};

/// See the file's head.
pub fn handovers_have_two_ends(state: &State) -> Result<(), Broken> {
    state.shards.iter().try_for_each(|(id, shard)| {
        let Some(handover) = &shard.handover else { return Ok(()) };
        let to = &handover.to;
        let owner = shard.owner.as_ref().ok_or_else(|| Broken(format!("shard {id} is to be moved from nobody")))?;
        ensure(owner.node != *to, || format!("shard {id} is to be moved to {to}, which has it"))?;
        let may_come = state.members.get(to).is_some_and(|member| member.state != MemberState::Gone);
        ensure(may_come, || format!("shard {id} is to be moved to {to}, which is no member"))
    })
}
