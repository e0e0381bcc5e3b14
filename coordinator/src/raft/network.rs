//! The way to other voters. A group of one has none, so every call answers that the other is unreachable.

use std::future::Future;

use openraft::{
    RaftNetworkFactory, RaftNetworkV2,
    errors::{RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::RPCOption,
    raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse},
};

use super::types::{RaftNode, Snapshot, TypeConfig, Vote};

/// Makes connections that lead nowhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone;

/// A connection that leads nowhere.
#[derive(Debug)]
pub(super) struct Nowhere {
    target: u64,
}

impl Nowhere {
    fn unreachable(&self) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("voter {} is unreachable: this group has no network", self.target))
    }
}

impl RaftNetworkFactory<TypeConfig> for Alone {
    type Network = Nowhere;

    async fn new_client(&mut self, target: u64, _node: &RaftNode) -> Nowhere {
        Nowhere { target }
    }
}

impl RaftNetworkV2<TypeConfig> for Nowhere {
    type SnapshotData = Vec<u8>;

    async fn append_entries(
        &mut self,
        _rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    // Without this, openraft would count an unreachable voter as granting.
    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(self.unreachable().into())
    }
}
