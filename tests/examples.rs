//! The examples do what they say.

#[path = "../examples/agent_tool.rs"]
mod agent_tool;
#[path = "../examples/judge.rs"]
mod judge;
#[path = "../examples/run_python.rs"]
mod run_python;
#[path = "../examples/thousand_sandboxes.rs"]
mod thousand_sandboxes;

use judge::Verdict;

#[test]
fn run_python_runs_a_program_and_stops_one_that_does_not_end() {
    let output = run_python::run("print(6 * 7)").unwrap();
    assert_eq!((output.stdout.as_slice(), output.exit.code), (b"42\n".as_slice(), 0));
    let output = run_python::run("import sys; print('x' * 100_000); sys.exit(3)").unwrap();
    assert!(output.truncated && output.exit.code == 3, "{output:?}");
    assert!(run_python::run("while True: pass").unwrap().exit.timed_out);
}

#[test]
fn agent_tool_keeps_files_from_call_to_call_and_survives_nonsense() {
    let calls = "{\"command\": \"echo kept > file\"}\nnonsense\n{\"command\": \"cat file; exit 4\"}\n";
    let mut answers = Vec::new();
    agent_tool::serve(calls.as_bytes(), &mut answers).unwrap();
    let answers: Vec<serde_json::Value> = serde_json::Deserializer::from_slice(&answers)
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(answers[0]["exit_code"], 0);
    assert_eq!(answers[1]["exit_code"], 2);
    assert_eq!(answers[2]["output"], "kept\n");
    assert_eq!(answers[2]["exit_code"], 4);
}

#[tokio::test]
async fn judge_tells_right_from_wrong_slow_greedy_and_broken() {
    let engine = wisp::Engine::new().unwrap();
    let judge = async |solution: &str| judge::judge(&engine, solution, &judge::SUM).await.unwrap();
    let right = judge("import sys; print(sum(map(int, sys.stdin.read().split())))").await;
    assert_eq!(right, [Verdict::Accepted; 3]);
    assert_eq!(
        judge("print(6)").await,
        [Verdict::Accepted, Verdict::WrongAnswer, Verdict::WrongAnswer]
    );
    assert_eq!(judge("while True: pass").await, [Verdict::TimeLimit; 3]);
    assert_eq!(judge("x = [0]\nwhile True: x += x").await, [Verdict::RuntimeError; 3]);
    assert_eq!(judge("print('x' * 2_000_000)").await, [Verdict::OutputLimit; 3]);
}

#[tokio::test]
async fn thousand_sandboxes_each_answer_with_their_own_file() {
    let report = thousand_sandboxes::run(1000).await.unwrap();
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(report.outputs, expected);
    // They share what they have not changed.
    assert!(report.bytes_each < 1 << 20, "{report:?}");
}
