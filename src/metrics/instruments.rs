//! The instruments of one meter, and the one way to record on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, UpDownCounter};

use super::bound::Bounds;
use super::exemplar::{Exemplar, Exemplars, Place};
use super::table::{Instrument, Kind, TokenNames, When};

/// Dimensions of a measurement; those without a value are left out.
pub(super) type Dimensions<'b> = [(&'static str, Option<&'b str>)];

enum Built {
    Counter(Counter<u64>),
    UpDownCounter(UpDownCounter<i64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>),
    /// Not wanted, or observed from elsewhere.
    Not,
}

/// What layer and exporter share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub exemplars: Exemplars,
    /// Something was measured since this was last looked at.
    pub changed: AtomicBool,
}

pub(super) struct Instruments {
    built: Vec<Built>,
    bounds: Bounds,
    /// `None` where nobody takes exemplars.
    shared: Option<Arc<Shared>>,
    exemplars: bool,
}

impl Instruments {
    pub fn new(meter: &Meter, tokens: TokenNames, shared: Option<Arc<Shared>>, exemplars: bool) -> Self {
        let build = |instrument: &Instrument| {
            let of = instrument.described();
            if of.when == When::Live || !tokens.wants(of.when) {
                return Built::Not;
            }
            match of.kind {
                Kind::Counter => Built::Counter(
                    meter.u64_counter(of.name).with_unit(of.unit).with_description(of.doc).build(),
                ),
                Kind::UpDownCounter => Built::UpDownCounter(
                    meter.i64_up_down_counter(of.name).with_unit(of.unit).with_description(of.doc).build(),
                ),
                Kind::Gauge => {
                    Built::Gauge(meter.f64_gauge(of.name).with_unit(of.unit).with_description(of.doc).build())
                }
                Kind::Histogram(bounds) => Built::Histogram(
                    meter
                        .f64_histogram(of.name)
                        .with_unit(of.unit)
                        .with_description(of.doc)
                        .with_boundaries(bounds.to_vec())
                        .build(),
                ),
            }
        };
        let built = Instrument::ALL.iter().map(build).collect();
        Instruments { built, bounds: Bounds::default(), shared, exemplars }
    }

    /// Records a measurement. Dimensions that the table does not give the instrument are left out.
    pub fn record(&self, instrument: Instrument, value: f64, dimensions: &Dimensions<'_>, place: Place) {
        let Some(built) = self.built.get(instrument as usize) else { return };
        let allowed = instrument.described().attributes;
        let mut series: Vec<(String, String)> = dimensions
            .iter()
            .filter(|(key, _)| allowed.contains(key))
            .filter_map(|(key, value)| {
                let value = value.filter(|value| !value.is_empty())?;
                Some(((*key).to_owned(), self.bounds.bound(key, value)))
            })
            .collect();
        series.sort();
        let attributes: Vec<KeyValue> =
            series.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
        match built {
            Built::Counter(counter) => counter.add(value as u64, &attributes),
            Built::UpDownCounter(counter) => counter.add(value as i64, &attributes),
            Built::Gauge(gauge) => gauge.record(value, &attributes),
            Built::Histogram(histogram) => histogram.record(value, &attributes),
            Built::Not => return,
        }
        let Some(shared) = &self.shared else { return };
        shared.changed.store(true, Ordering::Release);
        if self.exemplars && place.trace != 0 && matches!(built, Built::Counter(_) | Built::Histogram(_)) {
            shared.exemplars.keep(instrument, series, Exemplar { value, place });
        }
    }
}
