//! A cluster that is being founded.

use super::cluster::{FAST, Node, cluster_id};

#[tokio::test]
async fn nobody_hears_of_a_cluster_that_is_not_on_its_founders_disk() {
    let node = Node::start("n1", FAST).await;
    // As a crash after the id was written and before the first entry was.
    node.group.raft.shutdown().await.unwrap();
    assert!(node.group.found(cluster_id()).await.is_err());
    assert_eq!(node.group.identity().cluster_id, None);
    let node = node.kill().await.restart().await;
    assert_eq!(node.group.identity().cluster_id, None);
    assert!(node.group.is_pristine());

    node.group.found(cluster_id()).await.unwrap();
    assert_eq!(node.group.identity().cluster_id, Some(cluster_id()));
    let node = node.kill().await.restart().await;
    assert_eq!(node.group.identity().cluster_id, Some(cluster_id()));
}
