//! Puts an OTLP request together from stored bytes, without decoding any of them.
//!
//! With R the encoded `ResourceLogs` (or `ResourceSpans`) without its scopes, C the encoded `ScopeLogs`
//! without its records, and the records stored as frames `0x12 varint(n) body` (field 2 of a scope message,
//! length-delimited), the request is `0A varint(Lr) R 12 varint(Ls) C frames`, where Ls = |C| + |frames| and
//! Lr = |R| + 1 + v(Ls) + Ls, v being the length of a varint. Protobuf lets the fields of a message come in
//! any order, so R's other fields may stand in front of its scopes.

use std::fmt;

/// A stored header that is shorter than it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHeader;

impl fmt::Display for MalformedHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stored resource header is cut short")
    }
}

impl std::error::Error for MalformedHeader {}

/// The bytes of an `Export*ServiceRequest` for `frames` behind the stored `header` (`u32` little-endian |R|,
/// R, C).
///
/// # Errors
/// The header is shorter than the length in its front says.
pub fn request(header: &[u8], frames: &[u8]) -> Result<Vec<u8>, MalformedHeader> {
    request_behind(&[], header, frames)
}

/// The same behind other bytes, so that what frames a request needs no copy of it.
pub(super) fn request_behind(
    prefix: &[u8],
    header: &[u8],
    frames: &[u8],
) -> Result<Vec<u8>, MalformedHeader> {
    let (length, rest) = header.split_first_chunk::<4>().ok_or(MalformedHeader)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| MalformedHeader)?;
    let (resource, scope) = rest.split_at_checked(length).ok_or(MalformedHeader)?;

    let scope_length = scope.len() + frames.len();
    let resource_length = resource.len() + 1 + varint_length(scope_length) + scope_length;
    let mut out = Vec::with_capacity(prefix.len() + 1 + varint_length(resource_length) + resource_length);
    out.extend_from_slice(prefix);
    out.push(0x0A);
    push_varint(&mut out, resource_length);
    out.extend_from_slice(resource);
    out.push(0x12);
    push_varint(&mut out, scope_length);
    out.extend_from_slice(scope);
    out.extend_from_slice(frames);
    Ok(out)
}

fn varint_length(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn push_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, InstrumentationScope, KeyValue, any_value::Value,
    };
    use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    fn header(resource: &impl Message, scope: &impl Message) -> Vec<u8> {
        let resource = resource.encode_to_vec();
        let mut out = (resource.len() as u32).to_le_bytes().to_vec();
        out.extend(resource);
        out.extend(scope.encode_to_vec());
        out
    }

    fn frame(record: &impl Message) -> Vec<u8> {
        let mut out = vec![0x12];
        out.extend(record.encode_length_delimited_to_vec());
        out
    }

    fn resource(text: &str) -> Option<Resource> {
        let value = Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
        let attributes = vec![KeyValue { key: "service.name".into(), value, ..Default::default() }];
        Some(Resource { attributes, ..Default::default() })
    }

    fn scope(text: &str) -> Option<InstrumentationScope> {
        Some(InstrumentationScope { name: text.to_owned(), ..Default::default() })
    }

    proptest! {
        #[test]
        fn equals_what_the_encoder_of_opentelemetry_proto_writes(
            name in ".{0,200}", scope_name in ".{0,20}", bodies in prop::collection::vec(".{0,300}", 0..40),
        ) {
            let record = |body: &String| LogRecord { severity_text: body.clone(), ..Default::default() };
            let records: Vec<_> = bodies.iter().map(record).collect();
            let c = ScopeLogs { scope: scope(&scope_name), ..Default::default() };
            let r = ResourceLogs { resource: resource(&name), ..Default::default() };
            let frames: Vec<u8> = records.iter().flat_map(frame).collect();
            let ours = request(&header(&r, &c), &frames).unwrap();
            let scope_logs = vec![ScopeLogs { log_records: records, ..c }];
            let theirs = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..r }] };
            prop_assert_eq!(ours, theirs.encode_to_vec());
        }
    }

    #[test]
    fn decodes_to_the_same_spans_when_schema_urls_stand_in_front() {
        let span = |name: &str| Span { name: name.to_owned(), trace_id: vec![7; 16], ..Default::default() };
        let c = ScopeSpans { scope: scope("s"), schema_url: "c".into(), ..Default::default() };
        let r = ResourceSpans { resource: resource("r"), schema_url: "r".into(), ..Default::default() };
        let frames = [frame(&span("a")), frame(&span("b"))].concat();
        let ours = request(&header(&r, &c), &frames).unwrap();
        let scope_spans = vec![ScopeSpans { spans: vec![span("a"), span("b")], ..c }];
        let theirs = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..r }] };
        assert_eq!(ExportTraceServiceRequest::decode(&ours[..]).unwrap(), theirs);
    }

    #[test]
    fn a_header_that_is_cut_short_is_an_error() {
        for header in [&b""[..], b"\x01\0\0", b"\x01\0\0\0", b"\xff\xff\xff\xff1234"] {
            assert_eq!(request(header, b""), Err(MalformedHeader));
        }
    }
}
