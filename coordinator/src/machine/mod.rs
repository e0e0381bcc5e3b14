//! The replicated state machine: `apply(state, command) -> outcome`, pure, one command a file.
//!
//! Applying reads no clock, no random number and no file, so every voter ends in the same state. A refusal is a normal outcome
//! and leaves the state untouched.

mod apply_pipeline;
mod assign_shards;
mod cancel_moves;
mod delete_pipeline;
mod earlier;
mod handover;
mod init_cluster;
pub mod invariants;
mod outcome;
mod pause_pipeline;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(crate) mod random;
mod record_checkpoints;
mod register_member;
mod removal;
mod remove_member;
mod resume_pipeline;
mod set_member_state;
mod start_moves;
mod touched;

use std::fmt;

pub use apply_pipeline::{ApplyPipeline, EARLIER_SPECS_MAX};
pub use assign_shards::{AssignShards, ShardAssignment};
pub use cancel_moves::CancelMoves;
pub use delete_pipeline::DeletePipeline;
pub use init_cluster::InitCluster;
pub use outcome::{CheckpointRefusal, Outcome, Refusal, RefusalKind, RefusedCheckpoint};
pub use pause_pipeline::PausePipeline;
pub use record_checkpoints::RecordCheckpoints;
pub use register_member::RegisterMember;
pub use remove_member::RemoveMember;
pub use resume_pipeline::ResumePipeline;
pub use set_member_state::SetMemberState;
pub use start_moves::StartMoves;
pub use touched::Touched;

use crate::model::{State, UnixMs};

/// One change of the state, as it stands in the Raft log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The proposer's clock; the only time that applying knows.
    pub proposed_at: UnixMs,
    /// What to change.
    pub kind: Kind,
}

macro_rules! kinds {
    ($($kind:ident),* $(,)?) => {
        /// What a command changes.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = concat!("See [`", stringify!($kind), "`].")] $kind($kind),)*
        }

        impl Kind {
            /// The command's name, for logs.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$kind(_) => stringify!($kind),)* }
            }
        }

        $(impl From<$kind> for Kind {
            fn from(command: $kind) -> Self {
                Self::$kind(command)
            }
        })*

        /// Applies one committed command.
        pub fn apply(state: &mut State, command: Command) -> Outcome {
            let at = command.proposed_at;
            let result = match command.kind { $(Kind::$kind(command) => command.apply(state, at),)* };
            result.unwrap_or_else(Outcome::Refused)
        }
    };
}

kinds!(
    InitCluster,
    RegisterMember,
    ApplyPipeline,
    PausePipeline,
    ResumePipeline,
    DeletePipeline,
    AssignShards,
    RecordCheckpoints,
    SetMemberState,
    RemoveMember,
    StartMoves,
    CancelMoves,
);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())
    }
}
