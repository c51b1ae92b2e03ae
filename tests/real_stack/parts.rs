//! The real programs with the configurations of `otel-config/`, on ports of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::program::{Program, corpus, factline, free_ports, get, named_by, run, until};
use crate::received::Received;

pub const READY: &str = "Everything is ready";

pub fn otel_config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("otel-config").join(name)
}

pub fn collector_program() -> Option<PathBuf> {
    named_by("FACTLINE_COLLECTOR", "an otelcol binary (`.ci/parts collector` builds one)")
}

pub fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// A collector that runs.
pub struct Collector {
    pub program: Program,
    pub http: u16,
    pub grpc: u16,
    /// Its own metrics.
    pub own: u16,
    /// What it counted.
    pub counted: u16,
    pub dir: PathBuf,
}

impl Collector {
    /// With these files of `otel-config/collector/`, one over the other; everything it writes is below `dir`.
    pub fn start(program: &Path, files: &[&str], dir: &Path, settings: &[(&str, String)]) -> Collector {
        std::fs::create_dir_all(dir).unwrap();
        let (program, [http, grpc, own, counted, _]) =
            Program::on_free_ports(READY, |[http, grpc, own, counted, health]: [u16; 5]| {
                let mut command = Command::new(program);
                for file in files {
                    command.arg("--config").arg(otel_config("collector").join(file));
                }
                command
                    .env("OTLP_HTTP", local(http))
                    .env("OTLP_GRPC", local(grpc))
                    .env("SELF_PORT", own.to_string())
                    .env("COUNTED", local(counted))
                    .env("HEALTH", local(health))
                    .env("QUEUE_DIR", dir.join("queue"))
                    .env("OTLP_FILES", dir.join("in"))
                    .env("FILES_OUT", dir)
                    .envs(settings.iter().map(|(name, value)| (name, value)));
                command
            });
        Collector { program, http, grpc, own, counted, dir: dir.to_owned() }
    }

    /// One that writes what it is given into files.
    pub fn into_files(program: &Path, dir: &Path) -> Collector {
        Collector::start(program, &["files.yaml"], dir, &[])
    }

    pub fn received(&self) -> Received {
        Received::from_files(&self.dir)
    }

    /// Sum of the samples whose line begins so, on the page of its own metrics.
    pub fn own_sum(&self, series: &str) -> f64 {
        sum(&get(self.own, "/metrics").unwrap_or_default(), series)
    }

    /// Settings of a gateway that hands everything to this one.
    pub fn as_back_end(&self) -> Vec<(&'static str, String)> {
        let http = format!("http://{}", local(self.http));
        vec![("TRACES_OTLP", local(self.grpc)), ("LOGS_OTLP", http.clone()), ("METRICS_OTLP", http)]
    }
}

/// Sum of the samples whose line begins so, in Prometheus' text format.
pub fn sum(page: &str, series: &str) -> f64 {
    page.lines()
        .filter(|line| line.starts_with(series))
        .filter_map(|line| line.split(" # ").next()?.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// What all recorded sessions, or these, come to.
pub fn expected(dir: &Path, sessions: &[PathBuf]) -> Received {
    let files = dir.join("expected");
    run(factline(dir).args(["replay", "--otlp-file"]).arg(&files).args(sessions));
    Received::from_files(&files)
}

pub fn sessions() -> Vec<PathBuf> {
    corpus().into_iter().map(|(_, path)| path).collect()
}

/// Replays them to a collector.
pub fn replay(dir: &Path, port: u16, sessions: &[PathBuf]) {
    let endpoint = format!("http://{}", local(port));
    let output = run(factline(dir)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .args(["replay", "--json"])
        .args(sessions));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["waiting"], false, "{said}");
}

/// A Kafka of one broker, with as many partitions for each topic that is written to first.
pub struct Kafka {
    pub port: u16,
    _program: Program,
}

impl Kafka {
    pub fn start(dir: &Path, partitions: u16) -> Option<Kafka> {
        let libraries = std::env::var_os("FACTLINE_KAFKA").filter(|path| !path.is_empty());
        let Some(libraries) = libraries.map(PathBuf::from) else {
            println!("skipped: set FACTLINE_KAFKA to a folder of Kafka's jars (`.ci/parts kafka` fills one)");
            return None;
        };
        assert!(libraries.is_dir(), "FACTLINE_KAFKA names {}, which is no folder", libraries.display());
        std::fs::create_dir_all(dir).unwrap();
        let java = || {
            let mut command = Command::new("java");
            // A short life: compiling as little as possible.
            command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp"]).arg(libraries.join("*"));
            command
        };
        let [port, controller] = free_ports();
        let properties = dir.join("server.properties");
        let text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             log.dirs={}\nnum.partitions={partitions}\noffsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            dir.join("data").display()
        );
        std::fs::write(&properties, text).unwrap();
        run(java()
            .args(["kafka.tools.StorageTool", "format", "-t", "factlineFactlineFact_w", "-c"])
            .arg(&properties));
        let program = Program::start(java().arg("kafka.Kafka").arg(&properties), "Kafka Server started");
        Some(Kafka { port, _program: program.unwrap() })
    }

    /// Bytes of the topics' files.
    pub fn bytes(dir: &Path, topic: &str) -> u64 {
        let partitions = std::fs::read_dir(dir.join("data")).unwrap().map(|entry| entry.unwrap().path());
        let of_topic =
            partitions.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(topic));
        let files = of_topic.flat_map(|path| std::fs::read_dir(path).unwrap());
        let logs = files
            .map(|entry| entry.unwrap())
            .filter(|it| it.path().extension().is_some_and(|it| it == "log"));
        logs.map(|entry| entry.metadata().unwrap().len()).sum()
    }
}

/// Waits until these collectors together wrote as much as was sent, and no longer than that.
pub fn arrived(at: &[&Collector], sent: &Received) -> Vec<Received> {
    until("everything sent arrives", || {
        let got: Vec<Received> = at.iter().map(|it| it.received()).collect();
        let logs: usize = got.iter().map(|it| it.logs.len()).sum();
        let spans: usize = got.iter().map(|it| it.spans.len()).sum();
        if logs >= sent.logs.len() && spans >= sent.spans.len() {
            Ok(got)
        } else {
            Err(format!("{logs} log records and {spans} spans of {:?}", sent.counts()))
        }
    })
}

/// A Prometheus that is pushed to and scrapes these collectors, often.
pub struct Prometheus {
    pub port: u16,
    _program: Program,
}

impl Prometheus {
    pub fn program() -> Option<PathBuf> {
        named_by("FACTLINE_PROMETHEUS", "a prometheus binary (`.ci/parts prometheus` builds one)")
    }

    /// With `prometheus.yaml`, on a port that is known before the collectors are.
    pub fn start(program: &Path, dir: &Path) -> Prometheus {
        let text = std::fs::read_to_string(otel_config("prometheus/prometheus.yaml")).unwrap();
        let often = text.replace("scrape_interval: 15s", "scrape_interval: 500ms");
        assert_ne!(text, often);
        std::fs::create_dir_all(dir.join("targets")).unwrap();
        std::fs::write(dir.join("prometheus.yaml"), often).unwrap();
        let ready = "Server is ready to receive web requests";
        let (program, [port]) = Program::on_free_ports(ready, |[port]: [u16; 1]| {
            let mut command = Command::new(program);
            command
                .arg(format!("--config.file={}", dir.join("prometheus.yaml").display()))
                .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
                .arg(format!("--web.listen-address={}", local(port)))
                .arg("--web.enable-otlp-receiver")
                .arg("--enable-feature=exemplar-storage,created-timestamp-zero-ingestion");
            command
        });
        Prometheus { port, _program: program }
    }

    /// Writes the files of targets as those in `otel-config/prometheus/targets/` are; it reads them by itself.
    pub fn scrape(&self, dir: &Path, collectors: &[&Collector]) {
        let file = |name: &str, ports: Vec<String>| {
            let shipped = std::fs::read_to_string(otel_config("prometheus/targets").join(name)).unwrap();
            let list = ports.iter().map(|port| format!("{port:?}")).collect::<Vec<_>>().join(", ");
            let mut lines: Vec<String> = shipped.lines().map(str::to_owned).collect();
            let targets = lines.iter_mut().find(|line| line.starts_with("- targets:")).unwrap();
            *targets = format!("- targets: [{list}]");
            std::fs::write(dir.join("targets").join(name), lines.join("\n") + "\n").unwrap();
        };
        let gateways = collectors.iter().filter(|it| get(it.counted, "/metrics").is_ok());
        file("counted.yaml", gateways.map(|it| local(it.counted)).collect());
        file("collectors.yaml", collectors.iter().map(|it| local(it.own)).collect());
    }

    pub fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<serde_json::Value, String> {
        let encoded = parameters.iter().map(|(name, value)| format!("{name}={}", percent(value)));
        let query = encoded.collect::<Vec<_>>().join("&");
        let body = get(self.port, &format!("{path}?{query}"))?;
        serde_json::from_str(&body).map_err(|error| error.to_string())
    }
}

/// Everything but letters and digits, for a query in an address.
pub fn percent(text: &str) -> String {
    let escaped = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(escaped).collect()
}
