//! A Raft id that was removed belongs to no member but the one that went with it, and every member that went is remembered.

use super::{Broken, ensure};
use crate::model::{MemberState, State};

/// See the file's head.
pub fn removed_disks_stay_away(state: &State) -> Result<(), Broken> {
    state.members.iter().try_for_each(|(name, member)| {
        let is_removed = state.removed.contains(&member.raft_id);
        ensure(is_removed == (member.state == MemberState::Gone), || {
            format!(
                "member {name} is {:?}, and its disk {}",
                member.state,
                if is_removed { "was removed" } else { "not" }
            )
        })?;
        ensure(!member.was_draining || member.state == MemberState::Stopping, || {
            format!("member {name} remembers a drain without stopping")
        })
    })
}
