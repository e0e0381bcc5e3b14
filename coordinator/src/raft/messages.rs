//! openraft's messages ⇄ `sluice.cluster.v1`.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use sluice_proto::{
    cluster::v1::{self as pb, append_entries_response::Result as Appended, transfer_leader_response::Refused},
    state::v1::{self as stored},
};

use super::{
    codec,
    types::{LogId, TypeConfig, Vote},
};

/// Largest message taken. A batch of entries is a MiB, but for a single one that is larger, which can be no larger than what the
/// gRPC interfaces take.
pub(super) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// A message that another version, or no node at all, has made.
#[derive(Debug, thiserror::Error)]
#[error("malformed message: {0}")]
pub(super) struct Malformed(String);

impl From<std::io::Error> for Malformed {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

fn some<T>(field: Option<T>, what: &str) -> Result<T, Malformed> {
    field.ok_or_else(|| Malformed(format!("no {what}")))
}

fn vote(vote: Option<&stored::Vote>) -> Result<Vote, Malformed> {
    some(vote, "vote").map(codec::vote_from_pb)
}

fn log_id(id: Option<&stored::LogId>) -> Option<LogId> {
    id.map(codec::log_id_from_pb)
}

fn pb_log_id(id: Option<&LogId>) -> Option<stored::LogId> {
    id.map(codec::log_id_to_pb)
}

pub(super) fn append_to_pb(route: pb::Route, append: &AppendEntriesRequest<TypeConfig>) -> pb::AppendEntriesRequest {
    pb::AppendEntriesRequest {
        route: Some(route),
        vote: Some(codec::vote_to_pb(&append.vote)),
        prev: pb_log_id(append.prev_log_id.as_ref()),
        entries: append.entries.iter().map(codec::entry_to_pb).collect(),
        committed: pb_log_id(append.leader_commit.as_ref()),
    }
}

pub(super) fn append_from_pb(append: pb::AppendEntriesRequest) -> Result<AppendEntriesRequest<TypeConfig>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote(append.vote.as_ref())?,
        prev_log_id: log_id(append.prev.as_ref()),
        entries: append.entries.into_iter().map(codec::entry_from_pb).collect::<Result<_, _>>()?,
        leader_commit: log_id(append.committed.as_ref()),
    })
}

pub(super) fn appended_to_pb(appended: &StreamAppendResult<TypeConfig>) -> pb::AppendEntriesResponse {
    let result = match appended {
        Ok(last) => Appended::Matched(pb::Matched { last: pb_log_id(last.as_ref()) }),
        Err(StreamAppendError::Conflict(prev)) => Appended::Conflict(codec::log_id_to_pb(prev)),
        Err(StreamAppendError::HigherVote(vote)) => Appended::HigherVote(codec::vote_to_pb(vote)),
    };
    pb::AppendEntriesResponse { result: Some(result) }
}

pub(super) fn appended_from_pb(
    appended: &pb::AppendEntriesResponse,
) -> Result<StreamAppendResult<TypeConfig>, Malformed> {
    Ok(match some(appended.result.as_ref(), "result")? {
        Appended::Matched(matched) => Ok(log_id(matched.last.as_ref())),
        Appended::Conflict(prev) => Err(StreamAppendError::Conflict(codec::log_id_from_pb(prev))),
        Appended::HigherVote(vote) => Err(StreamAppendError::HigherVote(codec::vote_from_pb(vote))),
    })
}

pub(super) fn vote_to_pb(route: pb::Route, request: &VoteRequest<TypeConfig>) -> pb::VoteRequest {
    pb::VoteRequest {
        route: Some(route),
        vote: Some(codec::vote_to_pb(&request.vote)),
        last: pb_log_id(request.last_log_id.as_ref()),
        is_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_from_pb(request: &pb::VoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    let mut read = VoteRequest::new(vote(request.vote.as_ref())?, log_id(request.last.as_ref()));
    read.leadership_transfer = request.is_transfer;
    Ok(read)
}

pub(super) fn voted_to_pb(voted: &VoteResponse<TypeConfig>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(codec::vote_to_pb(&voted.vote)),
        is_granted: voted.vote_granted,
        last: pb_log_id(voted.last_log_id.as_ref()),
    }
}

pub(super) fn voted_from_pb(voted: &pb::VoteResponse) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse::new(vote(voted.vote.as_ref())?, log_id(voted.last.as_ref()), voted.is_granted))
}

pub(super) fn pre_vote_to_pb(route: pb::Route, request: &VoteRequest<TypeConfig>) -> pb::PreVoteRequest {
    let pb::VoteRequest { route, vote, last, .. } = vote_to_pb(route, request);
    pb::PreVoteRequest { route, vote, last }
}

pub(super) fn pre_vote_from_pb(request: &pb::PreVoteRequest) -> Result<VoteRequest<TypeConfig>, Malformed> {
    Ok(VoteRequest::new(vote(request.vote.as_ref())?, log_id(request.last.as_ref())))
}

pub(super) fn pre_voted_to_pb(voted: &VoteResponse<TypeConfig>) -> pb::PreVoteResponse {
    let pb::VoteResponse { vote, is_granted, last } = voted_to_pb(voted);
    pb::PreVoteResponse { vote, is_granted, last }
}

pub(super) fn pre_voted_from_pb(voted: &pb::PreVoteResponse) -> Result<VoteResponse<TypeConfig>, Malformed> {
    Ok(VoteResponse::new(vote(voted.vote.as_ref())?, log_id(voted.last.as_ref()), voted.is_granted))
}

pub(super) fn transfer_to_pb(
    route: pb::Route,
    request: &TransferLeaderRequest<TypeConfig>,
) -> pb::TransferLeaderRequest {
    pb::TransferLeaderRequest {
        route: Some(route),
        vote: Some(codec::vote_to_pb(request.from_leader())),
        successor: *request.to_node_id(),
        last: pb_log_id(request.last_log_id()),
    }
}

pub(super) fn transfer_from_pb(
    request: &pb::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Malformed> {
    Ok(TransferLeaderRequest::new(vote(request.vote.as_ref())?, request.successor, log_id(request.last.as_ref())))
}

pub(super) fn transferred_to_pb(answer: &TransferLeaderResponse<TypeConfig>) -> pb::TransferLeaderResponse {
    let refused = match answer {
        Ok(()) => None,
        Err(TransferLeaderError::VoteChanged { actual, .. }) => Some(Refused::OtherVote(codec::vote_to_pb(actual))),
        Err(TransferLeaderError::LogNotFlushed { actual, .. }) => {
            Some(Refused::Behind(pb::Matched { last: pb_log_id(actual.as_ref()) }))
        }
    };
    pb::TransferLeaderResponse { refused }
}

pub(super) fn transferred_from_pb(
    answer: &pb::TransferLeaderResponse,
    request: &TransferLeaderRequest<TypeConfig>,
) -> TransferLeaderResponse<TypeConfig> {
    match &answer.refused {
        None => Ok(()),
        Some(Refused::OtherVote(actual)) => Err(TransferLeaderError::VoteChanged {
            expected: *request.from_leader(),
            actual: codec::vote_from_pb(actual),
        }),
        Some(Refused::Behind(actual)) => Err(TransferLeaderError::LogNotFlushed {
            expected: request.last_log_id().copied(),
            actual: log_id(actual.last.as_ref()),
        }),
    }
}
