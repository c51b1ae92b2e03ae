//! Analytics events over HTTP, in the form of Codex's own client or another: one request, one answer.
//!
//! A token that is refused (401 or 403) is renewed once per request, from the file or the command that it came
//! from; when there is no other, or that is refused too, the destination is paused.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT,
};
use reqwest::{Client, Url};
use serde::Deserialize;

use super::credential::Renewable;
use super::outcome::{Answer, Outcome, Split};
use super::outcome_json::classify_json;
use super::source::Batch;
use super::token;
use super::{SinkError, http, json_lines};
use crate::config::{Backend, BodyForm, Tls};

/// Events in a request, at most; the original sends one to three.
pub(super) const BATCH_RECORDS: usize = 100;
/// Bytes of events in a request, at most, unless one alone is longer.
pub(super) const BATCH_BYTES: usize = 1 << 20;

const ACCOUNT: HeaderName = HeaderName::from_static("chatgpt-account-id");
const ORIGINATOR: HeaderName = HeaderName::from_static("originator");
const AGENT: &str = concat!("factline/", env!("CARGO_PKG_VERSION"));

/// Sends events to one URL.
pub(crate) struct BackendSink {
    client: Client,
    url: Url,
    /// Headers of every request, which win over those of a queue.
    headers: HeaderMap,
    account: Option<HeaderValue>,
    bearer: Option<Renewable<HeaderValue>>,
    form: BodyForm,
    timeout: Duration,
}

/// What the queue says about the client whose events it holds.
#[derive(Default, Deserialize)]
struct Sender {
    originator: Option<String>,
    user_agent: Option<String>,
}

impl BackendSink {
    pub(crate) fn new(backend: &Backend) -> Result<Self, SinkError> {
        let account = match &backend.account_id {
            None => None,
            Some(id) => {
                let mut value = HeaderValue::from_str(id.expose())
                    .map_err(|_| SinkError("the account id cannot be sent in a header".to_owned()))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self {
            client: http::client(&backend.url, &Tls::default(), http::Version::Http1)?,
            url: backend.url.expose().clone(),
            headers: http::headers(&backend.headers)?,
            account,
            bearer: backend.token.clone().map(token::bearer),
            form: backend.form,
            timeout: backend.timeout,
        })
    }

    pub(crate) async fn send(&self, batch: &Batch, part: Range<usize>) -> Outcome {
        let body = || json_lines::body(self.form, batch, part.clone());
        let first = match body() {
            Ok(body) => body,
            Err(reason) => return Outcome::Rejected { split: Split::BadRecord, reason: reason.to_owned() },
        };
        let headers = self.headers_for(&batch.header);
        let Some(bearer) = &self.bearer else { return self.exchange(headers, first).await.1 };
        let token = match bearer.current().await {
            Ok(token) => token,
            // The command may have needed a network that is not there now.
            Err(reason) => return Outcome::Retry { after: None, reason },
        };
        let (refused, outcome) = self.exchange(with_token(&headers, token.clone()), first).await;
        if !refused {
            return outcome;
        }
        match (bearer.renewed(&token).await, body()) {
            (Ok(Some(other)), Ok(again)) => self.exchange(with_token(&headers, other), again).await.1,
            (Err(reason), _) => Outcome::Paused { reason: format!("the token was refused, and {reason}") },
            _ => outcome,
        }
    }

    fn headers_for(&self, queue: &[u8]) -> HeaderMap {
        let Sender { originator, user_agent } = serde_json::from_slice(queue).unwrap_or_default();
        let mut headers = self.headers.clone();
        // A name from a client's mouth: what can't be a header is left out.
        let value = |text: Option<String>| text.and_then(|text| HeaderValue::from_str(&text).ok());
        let agent = value(user_agent).unwrap_or(HeaderValue::from_static(AGENT));
        let told =
            [(ORIGINATOR, value(originator)), (USER_AGENT, Some(agent)), (ACCOUNT, self.account.clone())];
        for (name, value) in told {
            if let Some(value) = value {
                headers.entry(name).or_insert(value);
            }
        }
        headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(json_lines::content_type(self.form)));
        headers
    }

    /// Whether the token was refused, and what became of the request.
    async fn exchange(&self, headers: HeaderMap, body: Vec<u8>) -> (bool, Outcome) {
        let mut refused = false;
        let exchange = async {
            let mut response = self.client.post(self.url.clone()).headers(headers).body(body).send().await?;
            let body = http::read(&mut response).await?;
            let answer = Answer {
                status: response.status().as_u16(),
                retry_after: response.headers().get(RETRY_AFTER).map(HeaderValue::as_bytes),
                body: body.as_deref(),
            };
            refused = matches!(answer.status, 401 | 403);
            Ok(classify_json(&answer, SystemTime::now()))
        };
        let outcome = http::within(self.timeout, exchange).await.unwrap_or_else(|outcome| outcome);
        (refused, outcome)
    }
}

fn with_token(headers: &HeaderMap, token: HeaderValue) -> HeaderMap {
    let mut headers = headers.clone();
    headers.insert(AUTHORIZATION, token);
    headers
}
