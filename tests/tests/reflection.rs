//! A client that has none of our generated code and knows only gRPC reflection sees what happened.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, bail, ensure};
use prost_reflect::{
    DescriptorPool, DynamicMessage, MethodDescriptor, ReflectMessage as _, Value, prost::Message as _,
};
use sluice_tests::{eventually, loadtest::Load, scene::Scene};
use tokio::runtime::{self, Runtime};
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[test]
fn reflection_alone_shows_services_assignments_and_checkpoints_that_agree_with_kafka() -> anyhow::Result<()> {
    let scene = Scene::set(|pipeline| pipeline.shards = 3)?;
    let url = scene.mqtt.url();
    let report = Load { rate: 2_000, duration: Duration::from_secs(2), ..scene.load(&url) }.run()?;
    report.check_exact()?;
    scene.wait_settled()?;

    let client = Stranger::connect(scene.node.admin_port())?;
    let services = client.services()?;
    for service in ["PipelineService", "AssignmentService", "CheckpointService", "ClusterService"] {
        let name = format!("sluice.admin.v1.{service}");
        ensure!(services.contains(&name), "no {name} in {services:?}");
    }
    ensure!(services.iter().any(|name| name == "grpc.health.v1.Health"), "no health service: {services:?}");

    let assignments = list(&client.call("sluice.admin.v1.AssignmentService", "ListAssignments")?, "assignments")?;
    let owners: Vec<_> = assignments.iter().map(|a| (number(a, "index"), text(a, "node"))).collect();
    ensure!(owners == [0, 1, 2].map(|index| (Some(index), Some("node-0".to_owned()))), "{owners:?}");
    ensure!(assignments.iter().all(|a| number(a, "epoch") >= Some(1)), "{assignments:?}");

    let checkpoints = list(&client.call("sluice.admin.v1.CheckpointService", "ListCheckpoints")?, "checkpoints")?;
    ensure!(checkpoints.len() == 3, "{checkpoints:?}");
    let mut delivered = 0;
    let mut offsets: BTreeMap<i64, i64> = BTreeMap::new();
    for checkpoint in &checkpoints {
        let ledger = checkpoint.get_field_by_name("ledger").context("a ledger")?.into_owned();
        let Value::Message(ledger) = ledger else { bail!("{ledger:?} is no message") };
        delivered += number(&ledger, "delivered").context("delivered")?;
        for next in list(checkpoint, "next_offsets")? {
            ensure!(text(&next, "topic").as_deref() == Some(&scene.topic.name), "{next:?}");
            let (partition, offset) =
                number(&next, "partition").zip(number(&next, "next_offset")).context("numbers")?;
            let highest = offsets.entry(partition).or_default();
            *highest = offset.max(*highest);
        }
    }
    ensure!(u64::try_from(delivered)? == report.delivered, "{delivered} against {report:?}");
    let ends = scene.topic.end_offsets()?.into_iter().filter(|(_, end)| *end > 0);
    let ends: BTreeMap<i64, i64> = ends.map(|(partition, end)| (i64::from(partition), end)).collect();
    ensure!(offsets == ends, "checkpoints say {offsets:?}, Kafka says {ends:?}");
    Ok(())
}

/// A gRPC client without generated code of ours.
struct Stranger {
    runtime: Runtime,
    channel: Channel,
}

impl Stranger {
    fn connect(port: u16) -> anyhow::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
        let channel = eventually("it answers", || Ok(runtime.block_on(endpoint.connect())?))?;
        Ok(Self { runtime, channel })
    }

    fn ask(&self, request: MessageRequest) -> anyhow::Result<MessageResponse> {
        let mut client = ServerReflectionClient::new(self.channel.clone());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        self.runtime.block_on(async {
            let answers = client.server_reflection_info(tokio_stream::iter([request])).await?;
            let answer = answers.into_inner().message().await?.context("no answer")?;
            answer.message_response.context("an empty answer")
        })
    }

    fn services(&self) -> anyhow::Result<Vec<String>> {
        match self.ask(MessageRequest::ListServices(String::new()))? {
            MessageResponse::ListServicesResponse(list) => Ok(list.service.into_iter().map(|s| s.name).collect()),
            other => bail!("{other:?}"),
        }
    }

    /// Calls a method with an empty request.
    fn call(&self, service: &str, method: &str) -> anyhow::Result<DynamicMessage> {
        let MessageResponse::FileDescriptorResponse(files) =
            self.ask(MessageRequest::FileContainingSymbol(service.to_owned()))?
        else {
            bail!("no description of {service}");
        };
        let mut pool = DescriptorPool::new();
        for file in files.file_descriptor_proto {
            pool.add_file_descriptor_proto(prost_reflect::prost_types::FileDescriptorProto::decode(&*file)?)?;
        }
        let service = pool.get_service_by_name(service).context("the service is described")?;
        let method = service.methods().find(|known| known.name() == method).context("the method is described")?;
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let request = Request::new(DynamicMessage::new(method.input()));
        let mut grpc = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            grpc.ready().await?;
            let answer = grpc.unary(request, PathAndQuery::try_from(path)?, Dynamic(method)).await?;
            Ok(answer.into_inner())
        })
    }
}

fn list(message: &DynamicMessage, field: &str) -> anyhow::Result<Vec<DynamicMessage>> {
    let value = message
        .get_field_by_name(field)
        .with_context(|| format!("{} has no {field}", message.descriptor().full_name()))?;
    let items = value.as_list().context("a list")?;
    items.iter().map(|item| item.as_message().cloned().context("a message")).collect()
}

fn text(message: &DynamicMessage, field: &str) -> Option<String> {
    message.get_field_by_name(field)?.as_str().map(str::to_owned)
}

fn number(message: &DynamicMessage, field: &str) -> Option<i64> {
    let value = message.get_field_by_name(field)?;
    match *value {
        Value::I32(number) => Some(number.into()),
        Value::U32(number) => Some(number.into()),
        Value::I64(number) => Some(number),
        Value::U64(number) => i64::try_from(number).ok(),
        _ => None,
    }
}

/// Encodes and decodes whatever the method's description says.
struct Dynamic(MethodDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(self.0.clone())
    }

    fn decoder(&mut self) -> Self {
        Self(self.0.clone())
    }
}

impl Encoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, item: DynamicMessage, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(out).map_err(|error| Status::internal(error.to_string()))
    }
}

impl Decoder for Dynamic {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let decoded = DynamicMessage::decode(self.0.output(), input);
        decoded.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
