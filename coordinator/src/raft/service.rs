//! What other voters call: `sluice.cluster.v1.RaftService`, handed on to this node's Raft.
//!
//! A request for another cluster or another disk is refused, whatever it asks.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream, stream::BoxStream};
use openraft::Raft;
use sluice_proto::cluster::v1::{
    self as pb,
    install_snapshot_request::Part,
    raft_service_server::{RaftService, RaftServiceServer},
};
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tonic::{Request, Response, Status, Streaming};

use super::{
    codec::{decode_snapshot, vote_from_pb, vote_to_pb},
    crc::crc32c,
    group::Me,
    messages::{self, MESSAGE_BYTES_MAX, Malformed},
    state_machine::StateMachine,
    types::{Snapshot, TypeConfig},
};

/// Far above the state of 1,000 nodes and 100,000 shards; what is announced larger is a mistake.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;
/// Between two pieces of a snapshot. A sender that is gone must not keep the next one out for long.
const CHUNK_WITHIN: Duration = Duration::from_secs(5);

/// This node, as other voters reach it.
pub(crate) struct Service {
    me: Me,
    raft: Raft<TypeConfig, StateMachine>,
    /// One snapshot comes in at a time: they are large.
    snapshots: Semaphore,
}

impl Service {
    pub(super) fn new(me: Me, raft: Raft<TypeConfig, StateMachine>) -> Self {
        Self { me, raft, snapshots: Semaphore::new(1) }
    }

    pub(super) fn into_server(self) -> RaftServiceServer<Self> {
        RaftServiceServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl Me {
    /// Whether a request is for this node.
    pub(super) fn check(&self, route: Option<&pb::Route>) -> Result<(), Status> {
        let route = route.ok_or_else(|| Status::invalid_argument("the request does not say where it goes"))?;
        let Some(mine) = self.cluster_id.get() else {
            let text = format!("this node is in no cluster yet, the request is for one of {}", route.cluster_id);
            return Err(Status::failed_precondition(text));
        };
        if route.cluster_id != mine.as_str() {
            let text = format!("this node is of cluster {mine}, the request of {}", route.cluster_id);
            return Err(Status::failed_precondition(text));
        }
        if route.to != self.raft_id.0 {
            let text = format!("this node has raft id {}, the request is for {}", self.raft_id, route.to);
            return Err(Status::failed_precondition(text));
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl RaftService for Service {
    type AppendEntriesStream = BoxStream<'static, Result<pb::AppendEntriesResponse, Status>>;

    async fn append_entries(
        &self,
        request: Request<Streaming<pb::AppendEntriesRequest>>,
    ) -> Result<Response<Self::AppendEntriesStream>, Status> {
        // What is wrong with a request is the last answer, after those to the requests before it.
        let wrong = Arc::new(Mutex::new(None));
        let incoming = (self.me.clone(), request.into_inner(), wrong.clone());
        let requests = stream::unfold(incoming, |(me, mut incoming, wrong)| async {
            let request = match incoming.message().await {
                Ok(request) => request?,
                Err(_) => return None,
            };
            let route = me.check(request.route.as_ref());
            match route.and_then(|()| Ok(messages::append_from_pb(request)?)) {
                Ok(request) => Some((request, (me, incoming, wrong))),
                Err(status) => {
                    *wrong.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                    None
                }
            }
        });
        let answers = self.raft.stream_append(requests).map(|answer| match answer {
            Ok(appended) => Ok(messages::appended_to_pb(&appended)),
            Err(fatal) => Err(stopped(&fatal)),
        });
        let last = stream::once(async move { wrong.lock().unwrap_or_else(PoisonError::into_inner).take() });
        Ok(Response::new(answers.chain(last.filter_map(|wrong| async { wrong.map(Err) })).boxed()))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let request = request.into_inner();
        self.me.check(request.route.as_ref())?;
        let voted = self.raft.vote(messages::vote_from_pb(&request)?).await.map_err(stopped)?;
        Ok(Response::new(messages::voted_to_pb(&voted)))
    }

    async fn pre_vote(&self, request: Request<pb::PreVoteRequest>) -> Result<Response<pb::PreVoteResponse>, Status> {
        let request = request.into_inner();
        self.me.check(request.route.as_ref())?;
        let voted = self.raft.pre_vote(messages::pre_vote_from_pb(&request)?).await.map_err(stopped)?;
        Ok(Response::new(messages::pre_voted_to_pb(&voted)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let mut parts = request.into_inner();
        let Some(Part::Head(head)) = next(&mut parts).await? else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        self.me.check(head.route.as_ref())?;
        let vote = head.vote.ok_or_else(|| Status::invalid_argument("a snapshot without a vote"))?;
        let busy = |_| Status::resource_exhausted("another snapshot is coming in");
        let _one_at_a_time = self.snapshots.try_acquire().map_err(busy)?;
        let bytes = receive(&mut parts, &head).await?;
        let decode = move || decode_snapshot(&bytes).map(|(meta, _)| Snapshot { meta, snapshot: bytes });
        let snapshot = spawn_blocking(decode).await.map_err(|error| Status::internal(error.to_string()))?;
        let snapshot = snapshot.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let installed = self.raft.install_full_snapshot(vote_from_pb(&vote), snapshot).await.map_err(stopped)?;
        Ok(Response::new(pb::InstallSnapshotResponse { vote: Some(vote_to_pb(&installed.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        self.me.check(request.route.as_ref())?;
        let answer = self.raft.handle_transfer_leader(messages::transfer_from_pb(&request)?).await.map_err(stopped)?;
        Ok(Response::new(messages::transferred_to_pb(&answer)))
    }
}

async fn next(parts: &mut Streaming<pb::InstallSnapshotRequest>) -> Result<Option<Part>, Status> {
    let late = |_| Status::deadline_exceeded(format!("no piece of the snapshot for {CHUNK_WITHIN:?}"));
    Ok(timeout(CHUNK_WITHIN, parts.message()).await.map_err(late)??.and_then(|request| request.part))
}

/// The pieces, as one, if they are what the head says.
async fn receive(
    parts: &mut Streaming<pb::InstallSnapshotRequest>,
    head: &pb::SnapshotHead,
) -> Result<Vec<u8>, Status> {
    if head.length > SNAPSHOT_BYTES_MAX {
        return Err(Status::invalid_argument(format!("a snapshot of {} bytes is too large", head.length)));
    }
    let mut bytes = Vec::new();
    while let Some(part) = next(parts).await? {
        let Part::Chunk(chunk) = part else { return Err(Status::invalid_argument("a second head")) };
        bytes.extend_from_slice(&chunk);
        if bytes.len() as u64 > head.length {
            return Err(Status::invalid_argument("the snapshot is longer than its head says"));
        }
    }
    if bytes.len() as u64 != head.length || crc32c(&bytes) != head.crc {
        return Err(Status::data_loss("the snapshot is not what its head says"));
    }
    Ok(bytes)
}

/// Raft answers everything but what has stopped it.
fn stopped(fatal: impl fmt::Display) -> Status {
    Status::unavailable(format!("raft has stopped on this node: {fatal}"))
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("me", &self.me).finish_non_exhaustive()
    }
}
