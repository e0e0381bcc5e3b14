//! `sluice.cluster.v1.NodeService`: what other nodes ask of this one.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{
    Stream,
    stream::{self, BoxStream},
};
use prost::Message as _;
use sluice_proto::{
    cluster::v1::{
        self as pb, AttachRequest, AttachResponse, ProbeRequest, ProbeResponse, ProposeRequest, ProposeResponse,
        ReadStateRequest, ReadStateResponse, ReportRequest, ReportResponse, attach_request::Message,
        node_service_server::NodeService, propose_response, read_state_response, report_response,
    },
    state::v1 as state_pb,
};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};
use tonic::{Request, Response, Status, Streaming};

use super::{admission::Rejection, leading::Down, stays::Guest};
use crate::{
    core::Core,
    machine::Command,
    model::ClusterId,
    raft::WriteError,
    wire::{
        DecodeError,
        node::{down_to_pb, hello_from_pb},
    },
};

/// The hello is sent with the call itself; who is slower than this is not there.
const HELLO_WITHIN: Duration = Duration::from_secs(2);
/// Copies of the whole state that are made at a time; a large one has some hundred megabytes.
const READERS_MAX: usize = 2;
/// Bytes in one piece of the state.
const PIECE_BYTES: usize = 1 << 20;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Service {
    core: Arc<Core>,
    reading: Semaphore,
}

impl Service {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, reading: Semaphore::new(READERS_MAX) }
    }

    fn check_cluster(&self, theirs: &str) -> Result<(), Status> {
        match self.core.group.identity().cluster_id {
            Some(ours) if ours.as_str() == theirs => Ok(()),
            Some(ours) => Err(Status::failed_precondition(format!(
                "this node is in cluster {ours}, and was asked as one of cluster {theirs}"
            ))),
            None => Err(Status::failed_precondition(format!(
                "this node is in no cluster yet, and was asked as one of cluster {theirs}"
            ))),
        }
    }

    fn not_leader(&self) -> pb::NotLeader {
        pb::NotLeader { leader_address: self.core.group.roles().leader_address.unwrap_or_default() }
    }
}

#[tonic::async_trait]
impl NodeService for Service {
    type AttachStream = BoxStream<'static, Result<AttachResponse, Status>>;
    type ReadStateStream = BoxStream<'static, Result<ReadStateResponse, Status>>;

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        let (group, identity) = (&self.core.group, self.core.group.identity());
        Ok(Response::new(ProbeResponse {
            cluster_id: identity.cluster_id.map(|id| id.to_string()).unwrap_or_default(),
            raft_id: identity.raft_id.0,
            name: self.core.settings.node.to_string(),
            is_pristine: group.is_pristine() && self.core.waits_for_cluster().is_none(),
            leader_address: self.core.leader_address().unwrap_or_default(),
            may_found: self.core.settings.may_found,
            cluster_name: self.core.settings.cluster_name.clone(),
        }))
    }

    async fn attach(&self, request: Request<Streaming<AttachRequest>>) -> Result<Response<Self::AttachStream>, Status> {
        let (core, inbound) = (Arc::clone(&self.core), request.into_inner());
        let (stopping, queue) = (core.stop.subscribe(), VecDeque::new());
        let talk = Talk { core, inbound, stopping, guest: None, queue, is_over: false };
        Ok(Response::new(Box::pin(talk.responses())))
    }

    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        let request = request.into_inner();
        self.check_cluster(&request.cluster_id)?;
        let command = request.command.ok_or(DecodeError::Field("command")).and_then(Command::try_from);
        let command = command.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let within = Duration::from_millis(request.within_ms);
        let written = timeout(within, self.core.group.write(command)).await;
        let mut index = 0;
        let result = match written {
            Ok(Ok((outcome, at))) => {
                index = at;
                propose_response::Result::Outcome((&outcome).into())
            }
            Ok(Err(WriteError::NotLeader { leader })) => {
                let leader_address = leader.map(|(_, address)| address).unwrap_or_default();
                propose_response::Result::NotLeader(pb::NotLeader { leader_address })
            }
            Ok(Err(error @ (WriteError::Refused(_) | WriteError::Stopped(_)))) => {
                propose_response::Result::Unavailable(error.to_string())
            }
            Ok(Err(WriteError::Unknown(why))) => propose_response::Result::Unknown(why),
            Err(_) => propose_response::Result::Unknown(format!("no answer from a quorum in {within:?}")),
        };
        Ok(Response::new(ProposeResponse { result: Some(result), index }))
    }

    async fn read_state(&self, request: Request<ReadStateRequest>) -> Result<Response<Self::ReadStateStream>, Status> {
        self.check_cluster(&request.into_inner().cluster_id)?;
        let _turn = self.reading.acquire().await.map_err(|_| Status::unavailable("this node is stopping"))?;
        let core = Arc::clone(&self.core);
        // Copying and encoding a large state takes long enough to hold up whoever shares the thread.
        let read = spawn_blocking(move || {
            let (state, applied_index) = core.group.view_at(|state, index| (state.clone(), index));
            // After the reading: nobody else can have decided anything before it.
            let is_current = core.group.lease_left().is_some();
            (is_current.then(|| state_pb::State::from(&state).encode_to_vec()), applied_index)
        });
        let (bytes, applied_index) = read.await.map_err(|error| Status::internal(error.to_string()))?;
        let Some(bytes) = bytes else {
            let piece = Some(read_state_response::Piece::NotLeader(self.not_leader()));
            let only = ReadStateResponse { piece, applied_index };
            return Ok(Response::new(Box::pin(stream::iter([Ok(only)]))));
        };
        let piece = move |piece: &[u8]| {
            let piece = Some(read_state_response::Piece::State(piece.to_vec()));
            Ok(ReadStateResponse { piece, applied_index })
        };
        let pieces: Vec<_> = bytes.chunks(PIECE_BYTES).map(piece).collect();
        Ok(Response::new(Box::pin(stream::iter(pieces))))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        self.check_cluster(&request.into_inner().cluster_id)?;
        let result = match self.core.own_report() {
            Some(report) => report_response::Result::Report((&report).into()),
            None => report_response::Result::NotLeader(self.not_leader()),
        };
        Ok(Response::new(ReportResponse { result: Some(result) }))
    }
}

/// One node's talk with this one, for as long as its connection lasts.
struct Talk {
    core: Arc<Core>,
    inbound: Streaming<AttachRequest>,
    stopping: watch::Receiver<bool>,
    guest: Option<Guest>,
    queue: VecDeque<AttachResponse>,
    is_over: bool,
}

impl Talk {
    fn responses(self) -> impl Stream<Item = Result<AttachResponse, Status>> + Send {
        stream::unfold(self, |mut talk| async {
            loop {
                if let Some(response) = talk.queue.pop_front() {
                    return Some((Ok(response), talk));
                }
                if talk.is_over {
                    return None;
                }
                talk.go_on().await;
            }
        })
    }

    async fn go_on(&mut self) {
        if *self.stopping.borrow_and_update() {
            self.is_over = true;
            return;
        }
        let Some(guest) = &mut self.guest else {
            match self.greet().await {
                Ok(guest) => self.guest = Some(guest),
                Err(why) => self.end(why.as_ref()),
            }
            return;
        };
        tokio::select! {
            told = guest.inbox.recv() => match told {
                Some(down @ (Down::Refused(_) | Down::NotLeader(_))) => self.end(Some(&down)),
                Some(down) => self.queue.extend(down_to_pb(&down)),
                None => {
                    let leader = self.core.group.roles().leader_address;
                    self.end(Some(&Down::NotLeader(leader)));
                }
            },
            said = self.inbound.message() => match said {
                Ok(Some(AttachRequest { message: Some(Message::KeepAlive(keep_alive)) })) => guest.keep_alive(keep_alive.number),
                // A second hello, or what a later version may say: of no use here.
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => self.end(None),
            },
            _ = self.stopping.changed() => self.end(None),
        }
    }

    /// Err: what to say before the talk ends.
    async fn greet(&mut self) -> Result<Guest, Option<Down>> {
        let said = timeout(HELLO_WITHIN, self.inbound.message()).await;
        let Ok(Ok(Some(AttachRequest { message: Some(Message::Hello(hello)) }))) = said else { return Err(None) };
        match self.core.group.identity().cluster_id {
            None => return Err(Some(Down::NotLeader(None))),
            Some(ours) if ours.as_str() != hello.cluster_id => {
                let Ok(disk) = hello.cluster_id.parse::<ClusterId>() else { return Err(None) };
                return Err(Some(Down::Refused(Rejection::WrongCluster { disk, theirs: ours })));
            }
            Some(_) => {}
        }
        let hello = hello_from_pb(hello).map_err(|error| {
            tracing::warn!(%error, "a node said hello in a way that is not understood");
            None
        })?;
        self.core.stays.open(hello).await.map_err(Some)
    }

    fn end(&mut self, why: Option<&Down>) {
        self.queue.extend(why.into_iter().flat_map(down_to_pb));
        self.is_over = true;
    }
}
