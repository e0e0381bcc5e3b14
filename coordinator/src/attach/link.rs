//! The node's end of being attached: over the network, or in this process when this node leads.

use std::{sync::Arc, time::Duration};

use futures::stream;
use sluice_proto::cluster::v1::{AttachRequest, AttachResponse, node_service_client::NodeServiceClient};
use tokio::{sync::mpsc, time::timeout};
use tonic::Streaming;

use super::{
    admission::Hello,
    leading::Down,
    stays::{Guest, Stays},
};
use crate::{
    model::ClusterId,
    transport::Transport,
    wire::node::{MESSAGE_BYTES_MAX, down_from_pb, hello_to_pb, keep_alive_to_pb},
};

/// Keep-alives on their way. More of them unsent mean a connection that is stuck, and the deadline ends it.
const UNSENT_MAX: usize = 4;

/// A stay, from the node's side.
#[derive(Debug)]
pub(super) enum Link {
    /// At this very process.
    Here(Guest),
    /// Elsewhere.
    There { up: mpsc::Sender<AttachRequest>, down: Box<Streaming<AttachResponse>>, cluster: ClusterId },
}

impl Link {
    /// With the leader in this process.
    pub(super) async fn here(stays: &Arc<Stays>, hello: Hello) -> Result<Self, Down> {
        stays.open(hello).await.map(Self::Here)
    }

    /// With the node at `address`, which may lead or not: its first word tells.
    pub(super) async fn there(
        transport: &Transport,
        address: &str,
        cluster: ClusterId,
        hello: &Hello,
        within: Duration,
    ) -> Result<Self, String> {
        let channel = transport.channel(address).map_err(|error| error.to_string())?;
        let mut client = NodeServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let (up, mut sent) = mpsc::channel(UNSENT_MAX);
        // The channel is new and has room.
        let _ = up.try_send(hello_to_pb(hello, &cluster));
        let sent = stream::poll_fn(move |context| sent.poll_recv(context));
        match timeout(within, client.attach(sent)).await {
            Ok(Ok(answered)) => Ok(Self::There { up, down: Box::new(answered.into_inner()), cluster }),
            Ok(Err(status)) => Err(crate::transport::why(&status)),
            Err(_) => Err(format!("no answer in {within:?}")),
        }
    }

    /// Sends a keep-alive; one that cannot be sent now is not, and will not be answered.
    pub(super) fn keep_alive(&self, number: u64) {
        match self {
            Self::Here(guest) => guest.keep_alive(number),
            Self::There { up, .. } => drop(up.try_send(keep_alive_to_pb(number))),
        }
    }

    /// The leader's next word. Loses nothing when dropped half way.
    pub(super) async fn next(&mut self) -> Result<Down, String> {
        match self {
            Self::Here(guest) => guest.inbox.recv().await.ok_or_else(|| "this node leads no more".to_owned()),
            Self::There { down, cluster, .. } => match down.message().await {
                Ok(Some(response)) => down_from_pb(response, cluster).map_err(|error| error.to_string()),
                Ok(None) => Err("the leader ended it".to_owned()),
                Err(status) => Err(crate::transport::why(&status)),
            },
        }
    }

    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }
}
