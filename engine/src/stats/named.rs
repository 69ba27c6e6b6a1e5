//! Metrics of things that users name: endpoints and services. Those of one name are shown as one.
//!
//! Owns the definitions of these metrics. It counts nothing itself.

use std::collections::BTreeMap;

use super::EngineStats;
use super::metric::{Kind, Labels, Metric, Unit, Value};
use crate::listing::{EndpointRow, EndpointState, ServiceRow};

/// A metric of each thing of type `T`.
struct Named<T> {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    label: &'static str,
    named: fn(&T) -> &str,
    count: fn(&T) -> u64,
}

impl<T> Named<T> {
    fn metrics<'a>(&self, things: &'a [T]) -> Vec<Metric<'a>> {
        let mut counts = BTreeMap::<&str, u64>::new();
        for thing in things {
            *counts.entry((self.named)(thing)).or_default() += (self.count)(thing);
        }
        let metric = |(word, count)| Metric {
            name: self.name,
            help: self.help,
            kind: self.kind,
            unit: Unit::None,
            labels: Labels { shard: None, own: Some((self.label, word)) },
            value: Value::Count(count),
        };
        counts.into_iter().map(metric).collect()
    }
}

const fn endpoint(
    name: &'static str,
    help: &'static str,
    kind: Kind,
    count: fn(&EndpointRow) -> u64,
) -> Named<EndpointRow> {
    Named { name, help, kind, label: "endpoint", named: |row| &row.name, count }
}

const fn service(
    name: &'static str,
    help: &'static str,
    kind: Kind,
    count: fn(&ServiceRow) -> u64,
) -> Named<ServiceRow> {
    Named { name, help, kind, label: "service", named: |row| &row.name, count }
}

const ENDPOINTS: [Named<EndpointRow>; 4] = [
    endpoint("megamux_endpoint_connections", "Connections of an endpoint now.", Kind::Gauge, |row| row.live),
    endpoint(
        "megamux_endpoint_accepts_total",
        "Connections accepted by an endpoint's listener.",
        Kind::Counter,
        |row| row.accepted,
    ),
    endpoint(
        "megamux_endpoint_refusals_total",
        "Connections of an endpoint that were refused.",
        Kind::Counter,
        |row| row.refused,
    ),
    endpoint("megamux_endpoint_paused", "1 while an endpoint's listener is paused.", Kind::Gauge, |row| {
        u64::from(row.state == EndpointState::Paused)
    }),
];

const SERVICES: [Named<ServiceRow>; 3] = [
    service("megamux_service_queued", "Inputs and answers under way between a service and the shards.", Kind::Gauge, {
        |row| row.queued
    }),
    service("megamux_service_failures_total", "Panics of a service.", Kind::Counter, |row| row.panics),
    service("megamux_service_restarts_total", "Times that a service was made anew.", Kind::Counter, |row| row.restarts),
];

/// Every metric of every endpoint and service; the samples of one metric stand together.
pub(super) fn metrics(stats: &EngineStats) -> impl Iterator<Item = Metric<'_>> {
    let endpoints = ENDPOINTS.iter().flat_map(|named| named.metrics(&stats.endpoints));
    endpoints.chain(SERVICES.iter().flat_map(|named| named.metrics(&stats.services)))
}
