//! The way to other voters: `sluice.cluster.v1.RaftService` over kept connections.
//!
//! Every call has a deadline, and names the cluster and the disk that it is for. Whoever cannot be reached has granted nothing,
//! acknowledged nothing and refused nothing.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use openraft::{
    RaftNetworkFactory,
    base::{BoxFuture, BoxStream},
    errors::{RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
};
use sluice_proto::cluster::v1::{self as pb, raft_service_client::RaftServiceClient};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};
use tonic::{Response, Status, Streaming, transport::Channel};

use super::{
    codec::{vote_from_pb, vote_to_pb},
    crc::crc32c,
    group::Me,
    messages::{self, MESSAGE_BYTES_MAX, Malformed},
    types::{RaftNode, Snapshot, TypeConfig, Vote},
};
use crate::{
    coordinator::Timings,
    transport::{Traffic, Transport},
};

type RpcError = RPCError<TypeConfig>;
type Append = AppendEntriesRequest<TypeConfig>;
type Appended = StreamAppendResult<TypeConfig>;

/// Longest wait before speaking again to a voter that cannot be reached. Heartbeats go on meanwhile, and this is how much later
/// than they it gets its entries when it is back.
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// Pieces of a snapshot: a few of them fill a connection, and losing one costs nothing.
const CHUNK_BYTES: usize = 256 << 10;
/// What a snapshot may take: connecting and installing, and 1 MiB a second on the way.
const SNAPSHOT_WITHIN: Duration = Duration::from_secs(30);
const SNAPSHOT_BYTES_PER_SECOND: usize = 1 << 20;

/// Where others are, by Raft id. openraft keeps the connections of a leader for as long as it leads; a member that comes back at
/// another address must be found before that.
#[derive(Debug, Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeMap<u64, String>>>);

impl Addresses {
    pub(super) fn learn<'a>(&self, nodes: impl IntoIterator<Item = (&'a u64, &'a RaftNode)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(nodes.into_iter().map(|(id, node)| (*id, node.address.clone())));
    }

    fn of(&self, id: u64) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned().unwrap_or_default()
    }
}

/// Makes connections to other voters.
#[derive(Debug)]
pub(super) struct Network {
    me: Me,
    transport: Transport,
    addresses: Addresses,
    /// Between two attempts at first.
    back_off: Duration,
    /// In which a voter answers an append. A slow disk is no reason to send the same again; a dead connection is.
    answer_within: Duration,
}

impl Network {
    pub(super) fn new(me: Me, transport: Transport, addresses: Addresses, timings: &Timings) -> Self {
        Self { me, transport, addresses, back_off: timings.heartbeat, answer_within: timings.election_max }
    }

    fn connection(&self, target: u64, node: &RaftNode, traffic: Traffic) -> Connection {
        self.addresses.learn([(&target, node)]);
        Connection {
            me: self.me.clone(),
            target,
            name: node.name.clone(),
            transport: self.transport.clone(),
            addresses: self.addresses.clone(),
            traffic,
            back_off: self.back_off,
            answer_within: self.answer_within,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &RaftNode) -> Connection {
        self.connection(target, node, Traffic::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &RaftNode) -> Connection {
        self.connection(target, node, Traffic::Bulk)
    }
}

/// The way to one other voter.
#[derive(Debug)]
pub(super) struct Connection {
    me: Me,
    target: u64,
    name: String,
    transport: Transport,
    addresses: Addresses,
    traffic: Traffic,
    back_off: Duration,
    answer_within: Duration,
}

impl Connection {
    fn client(&self) -> Result<RaftServiceClient<Channel>, Unreachable<TypeConfig>> {
        let channel = self.transport.channel_for(&self.addresses.of(self.target), self.traffic);
        let channel = channel.map_err(|error| self.unreachable(&error.to_string()))?;
        Ok(RaftServiceClient::new(channel).max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn route(&self) -> Result<pb::Route, Unreachable<TypeConfig>> {
        let cluster_id = self.me.cluster_id.get().ok_or_else(|| self.unreachable("this node is in no cluster"))?;
        Ok(pb::Route { cluster_id: cluster_id.to_string(), to: self.target })
    }

    fn unreachable(&self, why: &str) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("{} (raft id {}): {why}", self.name, self.target))
    }

    fn failed(&self, status: &Status) -> Unreachable<TypeConfig> {
        self.unreachable(&format!("{:?}: {}", status.code(), status.message()))
    }

    fn late(&self, action: RPCTypes, timeout: Duration) -> Timeout<TypeConfig> {
        Timeout { action, id: self.me.raft_id.0, target: self.target, timeout }
    }

    /// One call with a deadline.
    async fn call<T>(
        &self,
        action: RPCTypes,
        within: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RpcError> {
        match timeout(within, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status).into()),
            Err(_) => Err(self.late(action, within).into()),
        }
    }

    fn read<T>(&self, answer: Result<T, Malformed>) -> Result<T, RpcError> {
        answer.map_err(|malformed| self.unreachable(&malformed.to_string()).into())
    }
}

impl NetBackoff<TypeConfig> for Connection {
    fn backoff(&self) -> Option<Backoff> {
        let waits = std::iter::successors(Some(self.back_off), |wait| Some((*wait * 2).min(BACK_OFF_MAX)));
        Some(Backoff::new(waits))
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<Appended, RpcError>>, RpcError>>
    where
        S: Stream<Item = Append> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            // The pause after a failure is openraft's, in `input`: a connection that fails before the first request is asked for would
            // be tried again without one.
            let Some(first) = input.next().await else {
                let nothing: BoxStream<'s, _> = Box::pin(stream::empty());
                return Ok(nothing);
            };
            let (mut client, route) = (self.client()?, self.route()?);
            let sent = Arc::new(AtomicU64::new(0));
            let (end, ended) = oneshot::channel::<()>();
            let requests = {
                let sent = sent.clone();
                // The connection would hold on to `input` until there is a next request. openraft needs it gone at once.
                stream::once(std::future::ready(first)).chain(input).take_until(ended).map(move |request| {
                    sent.fetch_add(1, Ordering::SeqCst);
                    messages::append_to_pb(route.clone(), &request)
                })
            };
            let answers =
                self.call(RPCTypes::AppendEntries, self.answer_within, client.append_entries(requests)).await?;
            let answers = Answers { connection: self, answers, sent, answered: 0, _end: end };
            let answers = stream::unfold(Some(answers), |answers| async {
                let mut answers = answers?;
                let answer = answers.next().await?;
                // Whatever is no match is the last answer.
                let more = matches!(answer, Ok(Ok(_))).then_some(answers);
                Some((answer, more))
            });
            let answers: BoxStream<'s, _> = Box::pin(answers);
            Ok(answers)
        })
    }
}

/// The answers of one stream of appends.
struct Answers<'s> {
    connection: &'s Connection,
    answers: Streaming<pb::AppendEntriesResponse>,
    sent: Arc<AtomicU64>,
    answered: u64,
    /// Ends the requests, with this.
    _end: oneshot::Sender<()>,
}

impl Answers<'_> {
    /// The next answer. There is no deadline while nothing is unanswered.
    async fn next(&mut self) -> Option<Result<Appended, RpcError>> {
        let within = self.connection.answer_within;
        let mut sent_before = self.sent.load(Ordering::SeqCst);
        loop {
            let answer = match timeout(within, self.answers.message()).await {
                Ok(Ok(answer)) => answer?,
                Ok(Err(status)) => return Some(Err(self.connection.failed(&status).into())),
                Err(_) if sent_before > self.answered => {
                    return Some(Err(self.connection.late(RPCTypes::AppendEntries, within).into()));
                }
                Err(_) => {
                    sent_before = self.sent.load(Ordering::SeqCst);
                    continue;
                }
            };
            self.answered += 1;
            return Some(self.connection.read(messages::appended_from_pb(&answer)));
        }
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let (mut client, request) = (self.client()?, messages::vote_to_pb(self.route()?, &rpc));
        let answer = self.call(RPCTypes::Vote, option.soft_ttl(), client.vote(request)).await?;
        self.read(messages::voted_from_pb(&answer))
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let (mut client, request) = (self.client()?, messages::pre_vote_to_pb(self.route()?, &rpc));
        let answer = self.call(RPCTypes::Vote, option.soft_ttl(), client.pre_vote(request)).await?;
        self.read(messages::pre_voted_from_pb(&answer))
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = Vec<u8>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let (mut client, route) = (self.client()?, self.route()?);
        let bytes = snapshot.snapshot;
        let within = SNAPSHOT_WITHIN + Duration::from_secs((bytes.len() / SNAPSHOT_BYTES_PER_SECOND) as u64);
        let head = pb::SnapshotHead {
            route: Some(route),
            vote: Some(vote_to_pb(&vote)),
            length: bytes.len() as u64,
            crc: crc32c(&bytes),
        };
        let started = Instant::now();
        let parts = stream::unfold((Some(head), 0, bytes), |(head, from, bytes)| async move {
            let part = |part| pb::InstallSnapshotRequest { part: Some(part) };
            if let Some(head) = head {
                return Some((part(pb::install_snapshot_request::Part::Head(head)), (None, 0, bytes)));
            }
            let to = (from + CHUNK_BYTES).min(bytes.len());
            let chunk = bytes[from..to].to_vec();
            (from < to).then(|| (part(pb::install_snapshot_request::Part::Chunk(chunk)), (None, to, bytes)))
        });
        let answer = tokio::select! {
            answer = timeout_at(started + within, client.install_snapshot(parts)) => match answer {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => return Err(self.failed(&status).into()),
                Err(_) => return Err(self.late(RPCTypes::InstallSnapshot, within).into()),
            },
            closed = cancel => return Err(closed.into()),
        };
        let vote = answer.vote.ok_or_else(|| self.unreachable("answered a snapshot without its vote"))?;
        tracing::info!(node = self.name, elapsed = ?started.elapsed(), "snapshot sent");
        Ok(SnapshotResponse::new(vote_from_pb(&vote)))
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let (mut client, request) = (self.client()?, messages::transfer_to_pb(self.route()?, &req));
        let answer = self.call(RPCTypes::TransferLeader, option.soft_ttl(), client.transfer_leader(request)).await?;
        Ok(messages::transferred_from_pb(&answer, &req))
    }
}
