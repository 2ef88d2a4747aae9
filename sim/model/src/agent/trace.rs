//! A trace: the steps of one agent. Drawn and recorded traces have the same form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::input::{JsonLine, Place, Problem, Text, json_lines};
use crate::investigation::{Domain, Outcome};
use crate::phase::{Action, Verb};
use crate::quantity::Bytes;
use crate::time::Span;

words! {
    /// A tool of an agent.
    pub enum Tool {
        /// The API of the language model.
        Llm = "llm",
        /// A search in logs.
        LogSearch = "log_search",
        /// A query of network telemetry.
        NetworkTelemetry = "network_telemetry",
        /// An access to cloud storage.
        CloudStorage = "cloud_storage",
    }
}

/// One step of an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Works by itself.
    Think(Span),
    /// Calls a tool.
    Call {
        /// The tool; it decides nothing but the name in the trace.
        tool: Tool,
        /// Duration of the call.
        takes: Span,
        /// LLM tokens, input and output.
        tokens: u32,
        /// Cost of the tokens, in millionths of a dollar.
        cost_micro_usd: u64,
    },
    /// Holds this much memory from now on.
    Hold(Bytes),
    /// Needs a credential for the systems of a domain.
    Need(Domain),
    /// Attempts an action, whether the phase allows it or not.
    Act(Action),
    /// Finishes a hypothesis.
    Hypothesis,
}

words! {
    /// How a trace ends.
    pub enum Ending {
        /// Finds the cause.
        Resolved = "resolved",
        /// Gives up or runs out of hypotheses.
        Inconclusive = "inconclusive",
        /// Hands over to a person.
        Escalated = "escalated",
        /// The process dies.
        Crash = "crash",
        /// Loops until it is stopped.
        EndlessLoop = "endless-loop",
    }
}

impl Ending {
    /// The conclusion, where the agent comes to one.
    pub const fn conclusion(self) -> Option<Outcome> {
        match self {
            Self::Resolved => Some(Outcome::Resolved),
            Self::Inconclusive => Some(Outcome::Inconclusive),
            Self::Escalated => Some(Outcome::Escalated),
            Self::Crash | Self::EndlessLoop => None,
        }
    }
}

/// How a trace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The kind of end.
    pub ending: Ending,
    /// Whether the agent gives its credentials back.
    pub returns_credentials: bool,
    /// Whether the agent ends with the outcome `denied` when it is refused something.
    pub stops_when_denied: bool,
}

/// The behaviour of one agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// Domain of the alert.
    pub domain: Domain,
    /// Domains of the credentials that the agent requests before its first step.
    pub at_start: Vec<Domain>,
    /// The steps after the credentials of the start, in order.
    pub steps: Vec<Step>,
    /// How the agent ends after the last step.
    pub end: End,
}

impl Trace {
    /// Whether the agent requests any credential.
    pub fn needs_vault(&self) -> bool {
        !self.at_start.is_empty() || self.steps.iter().any(|step| matches!(step, Step::Need(_)))
    }

    /// The duration of all steps, without waits for the platform.
    pub fn work(&self) -> Span {
        self.steps.iter().fold(Span::ZERO, |sum, step| match step {
            Step::Think(takes) | Step::Call { takes, .. } => sum + *takes,
            _ => sum,
        })
    }
}

/// A line of a file of traces.
#[derive(Debug, Serialize)]
struct Line {
    /// Name of the trace that the step belongs to.
    trace: String,
    /// Domain of the alert; required in the first line of a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<Domain>,
    #[serde(flatten)]
    what: What,
}

impl Line {
    /// Reads a line. Not derived: serde accepts unknown fields next to a flattened one.
    fn parse(line: JsonLine<'_>) -> Result<Self, (Place, String)> {
        let wrong = |place, message: &str| (place, format!("not a step of a trace: {message}"));
        let mut fields: serde_json::Map<String, serde_json::Value> =
            line.parse().map_err(|(place, message)| wrong(place, &message))?;
        let trace = match fields.remove("trace") {
            Some(serde_json::Value::String(name)) => name,
            _ => {
                let message = "expected the field `trace`, the name of the trace";
                return Err((line.place(0), message.to_owned()));
            }
        };
        // A value has no place of its own: that of the word which the message names is taken.
        let named = |error: serde_json::Error| {
            let message = error.to_string();
            let quoted = message.split('`').nth(1).map(|word| format!("\"{word}\""));
            let byte = quoted.and_then(|quoted| line.as_str().find(&quoted));
            wrong(line.place(byte.unwrap_or(0)), &message)
        };
        let domain =
            fields.remove("domain").map(serde_json::from_value).transpose().map_err(named)?;
        let what = serde_json::from_value(fields.into()).map_err(named)?;
        Ok(Self { trace, domain, what })
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum What {
    Start {
        at_start: Vec<Domain>,
    },
    Think {
        takes: Span,
    },
    Call {
        tool: Tool,
        takes: Span,
        #[serde(default)]
        tokens: u32,
        #[serde(default)]
        cost_micro_usd: u64,
    },
    Hold {
        memory: Bytes,
    },
    Need {
        credential: Domain,
    },
    Act {
        verb: Verb,
        target: Domain,
    },
    Hypothesis,
    End {
        ending: Ending,
        #[serde(default = "yes")]
        returns_credentials: bool,
        #[serde(default)]
        stops_when_denied: bool,
    },
}

const fn yes() -> bool {
    true
}

/// Reads a file of traces (JSON Lines), in the order of their first lines.
///
/// # Errors
/// Every line that is not a step, every trace without a domain or an end.
pub fn read(text: &str, source: &str) -> Result<Vec<Trace>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut problem = |place: Place, message: String| {
        problems.push(Problem { source: source.into(), place: Some(place), message, help: None });
    };
    let mut order: Vec<(String, Place)> = Vec::new();
    let mut traces: BTreeMap<String, (Trace, bool)> = BTreeMap::new();
    for line in json_lines(&Text::new(text)) {
        let begin = line.place(0);
        let line = match Line::parse(line) {
            Ok(line) => line,
            Err((place, message)) => {
                problem(place, message);
                continue;
            }
        };
        if !traces.contains_key(&line.trace) {
            let Some(domain) = line.domain else {
                problem(begin, format!("trace `{}` begins without its `domain`", line.trace));
                continue;
            };
            order.push((line.trace.clone(), begin));
            let end = End {
                ending: Ending::Inconclusive,
                returns_credentials: true,
                stops_when_denied: false,
            };
            let trace = Trace { domain, at_start: Vec::new(), steps: Vec::new(), end };
            traces.insert(line.trace.clone(), (trace, false));
        }
        if let Some((trace, ended)) = traces.get_mut(&line.trace) {
            if *ended {
                problem(begin, format!("trace `{}` goes on after its end", line.trace));
            }
            *ended |= add(trace, line.what);
        }
    }
    for (name, begin) in &order {
        if !traces[name].1 {
            problem(*begin, format!("trace `{name}` has no `\"do\":\"end\"`"));
        }
    }
    if order.is_empty() && problems.is_empty() {
        problems.push(Problem {
            source: source.into(),
            place: None,
            message: "expected at least one trace".into(),
            help: None,
        });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(order.into_iter().filter_map(|(name, _)| Some(traces.remove(&name)?.0)).collect())
}

/// Adds a line to its trace; whether it was the last.
fn add(trace: &mut Trace, what: What) -> bool {
    match what {
        What::Start { at_start } => trace.at_start = at_start,
        What::Think { takes } => trace.steps.push(Step::Think(takes)),
        What::Call { tool, takes, tokens, cost_micro_usd } => {
            trace.steps.push(Step::Call { tool, takes, tokens, cost_micro_usd });
        }
        What::Hold { memory } => trace.steps.push(Step::Hold(memory)),
        What::Need { credential } => trace.steps.push(Step::Need(credential)),
        What::Act { verb, target } => trace.steps.push(Step::Act(Action { verb, target })),
        What::Hypothesis => trace.steps.push(Step::Hypothesis),
        What::End { ending, returns_credentials, stops_when_denied } => {
            trace.end = End { ending, returns_credentials, stops_when_denied };
            return true;
        }
    }
    false
}

/// Writes traces as JSON Lines, the form that [`read`] reads.
///
/// # Panics
/// Never: every line is plain data.
pub fn write<'a>(traces: impl IntoIterator<Item = (&'a str, &'a Trace)>) -> String {
    let mut out = String::new();
    for (name, trace) in traces {
        let mut domain = Some(trace.domain);
        let mut line = |what: What| {
            let line = Line { trace: name.to_owned(), domain: domain.take(), what };
            out.push_str(&serde_json::to_string(&line).expect("plain data"));
            out.push('\n');
        };
        line(What::Start { at_start: trace.at_start.clone() });
        for step in &trace.steps {
            line(match *step {
                Step::Think(takes) => What::Think { takes },
                Step::Call { tool, takes, tokens, cost_micro_usd } => {
                    What::Call { tool, takes, tokens, cost_micro_usd }
                }
                Step::Hold(memory) => What::Hold { memory },
                Step::Need(credential) => What::Need { credential },
                Step::Act(Action { verb, target }) => What::Act { verb, target },
                Step::Hypothesis => What::Hypothesis,
            });
        }
        let End { ending, returns_credentials, stops_when_denied } = trace.end;
        line(What::End { ending, returns_credentials, stops_when_denied });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{Profile, draw};
    use crate::investigation::InvestigationId;

    #[test]
    fn a_drawn_trace_survives_its_file() {
        let drawn = draw::trace(1, InvestigationId(5), Domain::Security, &Profile::default());
        let text = write([("one", &drawn)]);
        assert_eq!(read(&text, "traces").unwrap(), [drawn]);
    }

    #[test]
    fn every_wrong_line_is_named_with_its_column() {
        let text = "{\"trace\":\"a\",\"domain\":\"network\",\"do\":\"think\",\"take\":\"1s\"}\n\
                    {\"trace\":\"a\",\"do\":\"end\",\"ending\":\"resolved\"}\n\
                    {\"trace\":\"b\",\"domain\":\"network\",\"do\":\"hypothesis\"}\n";
        let problems = read(text, "t.jsonl").unwrap_err();
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            shown[0].starts_with("t.jsonl:1:46: not a step of a trace: unknown field `take`"),
            "{shown:#?}"
        );
        assert!(shown[1].contains("trace `a` begins without its `domain`"), "{shown:#?}");
        assert!(shown[2].contains("trace `b` has no"), "{shown:#?}");
    }
}
