//! Errors of the coordinator as gRPC codes: all of them, here and nowhere else.

use tonic::Status;

use crate::{
    ProposeError,
    machine::{Outcome, Refusal, RefusalKind},
    model::{NodeName, Pipeline, PipelineName},
};

pub(super) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

pub(super) fn no_pipeline(name: &PipelineName) -> Status {
    Status::not_found(format!("there is no pipeline {name}"))
}

pub(super) fn no_node(name: &NodeName) -> Status {
    Status::not_found(format!("there is no node {name}"))
}

pub(super) fn stopping() -> Status {
    Status::unavailable("this node is shutting down: ask another, or this one again soon")
}

impl From<ProposeError> for Status {
    fn from(error: ProposeError) -> Self {
        let message = error.to_string();
        match error {
            ProposeError::Unavailable(_) | ProposeError::Stopped(_) => Self::unavailable(message),
            ProposeError::Unknown(_) => Self::deadline_exceeded(message),
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::NotFound => Self::not_found(refusal.message),
            RefusalKind::NotNow => Self::failed_precondition(refusal.message),
        }
    }
}

/// What a command about a pipeline came to.
pub(super) fn pipeline(outcome: Outcome) -> Result<(Pipeline, bool), Status> {
    match outcome {
        Outcome::Pipeline { pipeline, changed } => Ok((*pipeline, changed)),
        other => Err(unexpected(other)),
    }
}

/// An outcome that is none of those that were wanted: a refusal, or a defect.
pub(super) fn unexpected(outcome: Outcome) -> Status {
    match outcome {
        Outcome::Refused(refusal) => refusal.into(),
        other => Status::internal(format!("a defect of sluice: unexpected outcome {other:?}")),
    }
}
