//! Reads `limits` of a server.

use serde_json::json;
use toml::de::DeValue;

use super::model::WorkerLimits;
use super::reader::Reader;

/// `limits` of a server.
pub(super) fn limits(reader: &mut Reader<'_, '_>) -> WorkerLimits {
    WorkerLimits {
        memory: reader.size("memory", None, "Memory that one worker may hold with all its processes. One that holds more is killed, which its callers are told."),
        pids: reader.number("pids", None, 1..=1_000_000, "Processes and threads of one worker, kept by a control group: it can start no more, and gets EAGAIN. A node server has about 12, one that runs `npx` three times that. Where stdiopool may make no control groups (`stdiopool doctor`), processes alone are counted, every few seconds, and a worker with more is ended."),
        cpu_millis: processors(reader),
        cpu_weight: reader.number("cpu_weight", None, 1..=10_000, "Weight of one worker on the processors beside other workers of its tenant, where they want more than there is; 100 without. Tenants have the same weight each. By a control group: without (`stdiopool doctor`), it means nothing."),
        disk: reader.size("disk", None, "What its HOME, data and temporary folder may take on the disk. No file grows longer; all are measured from every second to every half minute, by how many there are. Over it, writes that make files longer fail with EFBIG until some of it is removed; at five quarters of it the worker is ended."),
        open_files: reader
            .number(
                "open_files",
                Some(1024),
                16..=1_048_576,
                "Open files of each process.",
            )
            .unwrap_or(1024),
        cpu_seconds: reader
            .number(
                "cpu_seconds",
                Some(0),
                0..=u64::from(u32::MAX),
                "Seconds of CPU time of each process, after which it is killed; 0: no limit.",
            )
            .unwrap_or(0),
    }
}

/// `cpu`, in thousandths.
fn processors(reader: &mut Reader<'_, '_>) -> Option<u64> {
    let schema = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1024 });
    let doc = "Processors that one worker may take, such as 0.5: what it wants beyond that waits, in periods of a tenth of a second. By a control group: without (`stdiopool doctor`), it is not limited.";
    let value = reader.raw("cpu", schema, doc)?;
    let text = match value.get_ref() {
        DeValue::Float(number) => number.as_str(),
        DeValue::Integer(number) => number.as_str(),
        _ => "",
    };
    let millis = text
        .parse::<f64>()
        .ok()
        .map(|processors| processors * 1000.0);
    let millis = millis.filter(|millis| (10.0..=1_024_000.0).contains(millis));
    if millis.is_none() {
        let name = reader.name("cpu");
        reader.wrong(
            "cpu",
            format!("`{name}` must be a number of processors from 0.01 to 1024, such as 0.5"),
        );
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the range above"
    )]
    millis.map(|millis| millis.round() as u64)
}
