//! What the configuration says about content.

use crate::config::{Config, MessageContent};
use crate::fact::Capture;
#[cfg(feature = "content")]
use crate::fact::{Kind, redact::Redaction};
use crate::otel::{Messages, OtelLayer};

/// What the configuration says about the form of records.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    messages: Messages,
    span_events: usize,
}

impl Shape {
    /// What `config` says.
    pub fn of(config: &Config) -> Shape {
        let said = &config.content;
        Shape {
            messages: match said.messages.value {
                MessageContent::None | MessageContent::Both => Messages::Both,
                MessageContent::Spans => Messages::Spans,
                MessageContent::Logs => Messages::Logs,
            },
            span_events: if said.span_events.value { said.span_event_count.value as usize } else { 0 },
        }
    }

    /// The layer in this form.
    pub fn of_layer(self, layer: OtelLayer) -> OtelLayer {
        layer.with_messages(self.messages).with_span_events(self.span_events)
    }
}

/// What the configuration lets out. Rules of the user are compiled, and kept as long as the process lives.
///
/// # Errors
/// A rule that can't be used; or content is asked for and the crate was built without the feature `content`.
pub fn capture(config: &Config) -> Result<Capture, String> {
    let said = &config.content;
    let [points, lasting] = said.limits();
    let capture = Capture::NONE.with_limits(points, lasting);
    #[cfg(feature = "content")]
    {
        let on = said.capture.value.iter().filter_map(|name| Kind::from_name(name));
        let capture = on.fold(capture, Capture::with);
        if said.rules.value.is_empty() {
            return Ok(capture);
        }
        let rules = Redaction::with_user_rules(&said.rules.value)
            .map_err(|why| format!("content.redact ({}): {why}", said.rules.origin))?;
        Ok(capture.with_redaction(Box::leak(Box::new(rules))))
    }
    #[cfg(not(feature = "content"))]
    match said.capture.value.is_empty() {
        true => Ok(capture),
        false => Err(format!("{}: this build captures no content (feature `content`)", said.capture.origin)),
    }
}
