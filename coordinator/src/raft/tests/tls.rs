//! Mutual TLS between nodes.

use std::{fs, path::Path, process::Command};

use sluice_proto::cluster::v1::{self as pb, raft_service_client::RaftServiceClient};
use tonic::Code;

use super::cluster::{FAST, cluster_with, eventually, write};
use crate::Transport;

/// A CA, and certificates that it has signed for the name `sluice-node`, made with the openssl program.
struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    fn make() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        openssl(dir.path(), &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ca"));
        let name = "-subj /CN=node -addext subjectAltName=DNS:sluice-node";
        openssl(dir.path(), &format!("req {key} -keyout node.key -out node.csr {name}"));
        let sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy";
        openssl(dir.path(), &format!("x509 -req -in node.csr {sign} -out node.pem"));
        Self { dir }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }

    fn transport(&self, server_name: &str) -> Transport {
        let name = Some(server_name.to_owned());
        Transport::tls(&self.read("ca.pem"), &self.read("node.pem"), &self.read("node.key"), name).unwrap()
    }
}

fn openssl(dir: &Path, arguments: &str) {
    let made = Command::new("openssl").args(arguments.split(' ')).current_dir(dir).output();
    let made = made.expect("the openssl program makes certificates; install it");
    assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
}

async fn ask(transport: &Transport, address: &str) -> tonic::Status {
    let mut client = RaftServiceClient::new(transport.channel(address).unwrap());
    client.vote(pb::VoteRequest::default()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_one_ca_form_a_group_and_nobody_else_gets_in() {
    let ours = Certificates::make();
    let nodes = cluster_with(3, FAST, || ours.transport("sluice-node")).await;
    write(&nodes, "secret").await;
    eventually("all have it", || nodes.iter().all(|node| node.pipelines() == ["secret"])).await;

    let address = nodes[0].address.to_string();
    let status = ask(&ours.transport("sluice-node"), &address).await;
    assert_eq!(status.code(), Code::InvalidArgument, "it is heard: {status:?}");
    // No certificate at all, one of another CA, plain text; and a name that the node's certificate does not have.
    let theirs = Certificates::make();
    let ca_of_ours = ours.read("ca.pem");
    let foreign =
        Transport::tls(&ca_of_ours, &theirs.read("node.pem"), &theirs.read("node.key"), Some("sluice-node".into()));
    for refused in [foreign.unwrap(), Transport::plain(), ours.transport("another-name")] {
        let status = ask(&refused, &address).await;
        assert_ne!(status.code(), Code::InvalidArgument, "it is not heard: {status:?}");
    }
    let tls = tonic::transport::ClientTlsConfig::new();
    let tls = tls.ca_certificate(tonic::transport::Certificate::from_pem(&ca_of_ours)).domain_name("sluice-node");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{address}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect_lazy();
    let status = RaftServiceClient::new(channel).vote(pb::VoteRequest::default()).await.unwrap_err();
    assert_ne!(status.code(), Code::InvalidArgument, "without a certificate: {status:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_told_at_once() {
    let ours = Certificates::make();
    let (ca, cert, key) = (ours.read("ca.pem"), ours.read("node.pem"), ours.read("node.key"));
    assert!(Transport::tls(&ca, &cert, b"nonsense", None).is_err());
    assert!(Transport::tls(&ca, b"nonsense", &key, None).is_err());
    assert!(Transport::tls(b"nonsense", &cert, &key, None).is_err());
    assert!(Transport::tls(&ca, &cert, &ours.read("ca.key"), None).is_err(), "a key of another certificate");
    let transport = Transport::plain();
    assert!(transport.channel("no-port").is_err());
    assert!(transport.channel("two words:1").is_err());
    assert!(transport.channel("").is_err());
    assert!(transport.channel("node-1.example:7070").is_ok() && transport.channel("[::1]:7070").is_ok());
    assert!(!format!("{:?}", ours.transport("x")).contains("PRIVATE"), "keys stay out of logs");
}
