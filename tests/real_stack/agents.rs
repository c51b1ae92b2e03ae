//! The collector of a node: nothing that it took is lost, and a trace stays together on its way.

use std::collections::BTreeSet;

use crate::parts::{Collector, Kafka, arrived, collector_program, expected, local, replay, sessions};
use crate::program::{free_ports, until};
use crate::received::{Received, assert_same};

fn traces(of: &Received) -> BTreeSet<Vec<u8>> {
    of.spans.iter().map(|of| of.record.trace_id.clone()).collect()
}

/// Holds what came out of all ends, taken together, against what was sent.
fn assert_once(sent: &Received, parts: Vec<Received>) {
    let mut got = Received::default();
    parts.into_iter().for_each(|part| got.add(part));
    got.empty_is_absent();
    got.without_resource_attribute("service.instance.id");
    assert_same("log records, left sent, right arrived", &sent.logs, &got.logs);
    assert_same("spans, left sent, right arrived", &sent.spans, &got.spans);
}

#[test]
fn an_agent_that_is_killed_while_its_gateway_is_away_loses_nothing() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sent = expected(dir.path(), &sessions());
    let [away] = free_ports();
    let upstream = [("UPSTREAM", local(away))];
    let agent = Collector::start(&program, &["agent.yaml"], &dir.path().join("agent"), &upstream);
    replay(dir.path(), agent.http, &sessions());
    // Without a word of warning: this is how the value ends.
    drop(agent);

    let back_end = Collector::into_files(&program, &dir.path().join("end"));
    let upstream = [("UPSTREAM", local(back_end.grpc))];
    let agent = Collector::start(&program, &["agent.yaml"], &dir.path().join("agent"), &upstream);
    let mut got = arrived(&[&back_end], &sent);
    let (status, said) = agent.program.end();
    assert!(status.success(), "{status}\n{said}");
    // What was under way when it was killed may be sent twice; the same id tells.
    let got = got.remove(0);
    let ids = |of: &Received| -> BTreeSet<Vec<u8>> {
        of.spans.iter().map(|of| [of.record.trace_id.clone(), of.record.span_id.clone()].concat()).collect()
    };
    assert_eq!(ids(&got), ids(&sent));
    println!("{:?} of {:?} log records and spans after kill -9", got.counts(), sent.counts());
}

#[test]
fn agents_keep_a_trace_together_on_the_way_to_several_gateways() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let sent = expected(dir.path(), &sessions());
    let ends: Vec<Collector> =
        ["one", "two"].map(|name| Collector::into_files(&program, &dir.path().join(name))).into();
    let gateways = [("GATEWAY_1", local(ends[0].grpc)), ("GATEWAY_2", local(ends[1].grpc))];
    let files = ["agent.yaml", "agent-to-gateways.yaml"];
    let agent = Collector::start(&program, &files, &dir.path().join("agent"), &gateways);
    replay(dir.path(), agent.http, &sessions());
    let got = arrived(&[&ends[0], &ends[1]], &sent);
    let [one, two] = [traces(&got[0]), traces(&got[1])];
    assert!(one.is_disjoint(&two), "{} traces are torn", one.intersection(&two).count());
    assert!(!one.is_empty() && !two.is_empty());
    println!("{} and {} traces at the two gateways", one.len(), two.len());
    assert_once(&sent, got);
}

#[test]
fn kafka_carries_each_trace_whole_to_one_of_two_gateways() {
    let Some(program) = collector_program() else { return };
    let dir = tempfile::tempdir().unwrap();
    const PARTITIONS: u16 = 8;
    let Some(kafka) = Kafka::start(&dir.path().join("kafka"), PARTITIONS) else { return };
    let broker = || ("KAFKA", local(kafka.port));
    let files = ["agent.yaml", "agent-to-kafka.yaml"];
    let agent = Collector::start(&program, &files, &dir.path().join("agent"), &[broker()]);

    // The first to write makes the topics, and the gateways share their partitions before the rest comes.
    let (first, rest) = {
        let mut all = sessions();
        let rest = all.split_off(1);
        (all, rest)
    };
    replay(dir.path(), agent.http, &first);
    let ends = ["one", "two"].map(|name| Collector::into_files(&program, &dir.path().join(name)));
    let gateways: Vec<Collector> = ends
        .iter()
        .zip(["gateway-1", "gateway-2"])
        .map(|(end, name)| {
            let mut settings = end.as_back_end();
            settings.extend([broker(), ("KAFKA_MEMBER", name.to_owned())]);
            let files = ["gateway.yaml", "gateway-from-kafka.yaml"];
            Collector::start(&program, &files, &dir.path().join(name), &settings)
        })
        .collect();
    until("the gateways share the partitions of both topics", || {
        let held = |gateway: &Collector| {
            gateway.own_sum("otelcol_kafka_receiver_partition_start")
                - gateway.own_sum("otelcol_kafka_receiver_partition_close")
        };
        let held = [held(&gateways[0]), held(&gateways[1])];
        let all = f64::from(2 * PARTITIONS);
        if held[0] >= all / 4.0 && held[1] >= all / 4.0 && held[0] + held[1] >= all {
            Ok(())
        } else {
            Err(format!("{held:?} of {all}"))
        }
    });
    let mut sent = expected(dir.path(), &first);
    arrived(&[&ends[0], &ends[1]], &sent);
    replay(dir.path(), agent.http, &rest);
    sent.add(expected(&dir.path().join("rest"), &rest));
    let got = arrived(&[&ends[0], &ends[1]], &sent);
    let [one, two] = [traces(&got[0]), traces(&got[1])];
    assert!(one.is_disjoint(&two), "{} traces are torn", one.intersection(&two).count());
    assert!(!one.is_empty() && !two.is_empty());
    for topic in ["otlp_spans", "otlp_logs"] {
        println!("{topic}: {} bytes", Kafka::bytes(&dir.path().join("kafka"), topic));
    }
    println!("{} and {} traces at the two gateways", one.len(), two.len());
    assert_once(&sent, got);
}
