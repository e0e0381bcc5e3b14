//! Every byte that leaves a Sluice process or outlives it: the generated code of `proto/sluice/**`.
//!
//! Generated code only. Conversions into checked types live with the crate that owns those types.

// Generated code does not follow the workspace's lint table.
#![allow(clippy::all, clippy::pedantic, missing_debug_implementations, unreachable_pub)]

/// Messages and services for operators: pipelines, assignments, checkpoints, nodes, cluster.
pub mod admin {
    /// Version 1, `sluice.admin.v1`.
    pub mod v1 {
        tonic::include_proto!("sluice.admin.v1");
    }
}

/// What nodes say to each other.
pub mod cluster {
    /// Version 1, `sluice.cluster.v1`.
    pub mod v1 {
        tonic::include_proto!("sluice.cluster.v1");
    }
}

/// What is written in the Raft log and in a snapshot. Stored: tags are never reused.
pub mod state {
    /// Version 1, `sluice.state.v1`.
    pub mod v1 {
        tonic::include_proto!("sluice.state.v1");
    }
}

/// The descriptors of every package above, for gRPC server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
