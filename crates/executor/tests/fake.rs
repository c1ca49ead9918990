//! The scripted executor: the contract's promises, and the features that only it has.

use std::time::Duration;

use trainyard_core::id::{Fence, InstanceId};
use trainyard_core::render::{RenderedCommand, RenderedImage};
use trainyard_core::stage::PullPolicy;
use trainyard_executor::conformance::{Candidate, Kit, MissingProgram, Program};
use trainyard_executor::fake::Fake;
use trainyard_executor::{
    Attempts, Containers, ErrorKind, ImageRequest, Status, Stream, conformance_tests,
};
use uuid::Uuid;

struct Scripted(Fake);

impl Scripted {
    fn new() -> Self {
        Self(Fake::new())
    }
}

impl Candidate for Scripted {
    type Executor = Fake;

    async fn make(&self) -> Fake {
        self.0.clone()
    }

    fn instance(&self) -> InstanceId {
        InstanceId(Uuid::nil())
    }

    fn image(&self) -> &str {
        "any"
    }

    fn program(&self, program: &Program<'_>) -> RenderedCommand {
        fake(&match program {
            Program::Exit(code) => vec![format!("exit={code}")],
            Program::Print(lines) => lines
                .iter()
                .map(|(stream, line)| match stream {
                    Stream::Stdout => format!("log={line}"),
                    Stream::Stderr => format!("err={line}"),
                })
                .collect(),
            Program::TakeASecond(before, after) => {
                vec![
                    format!("log={before}"),
                    "sleep=1s".into(),
                    format!("log={after}"),
                ]
            }
            Program::Hang => vec!["log=up".into(), "hang".into()],
            Program::Stubborn => vec!["log=up".into(), "hang".into(), "stubborn".into()],
            Program::Write(files) => files
                .iter()
                .map(|(path, text)| format!("output={path}:{text}"))
                .collect(),
            Program::PrintInput(name) => vec![format!("input={name}")],
            Program::PrintVariables(names) => {
                names.iter().map(|name| format!("env={name}")).collect()
            }
            Program::Missing => vec!["start_error=the image has no no-such-program".into()],
        })
    }

    fn missing_program(&self) -> MissingProgram {
        MissingProgram::StartFails
    }
}

fn fake<T: AsRef<str>>(directives: &[T]) -> RenderedCommand {
    let directives = directives.iter().map(|item| item.as_ref().to_owned());
    RenderedCommand::Exec(["fake".to_owned()].into_iter().chain(directives).collect())
}

conformance_tests!(Containers, Scripted::new());
conformance_tests!(Attempts, Scripted::new());

#[tokio::test]
async fn each_call_that_breaks_the_contract_is_refused_and_recorded() {
    let kit = Kit::new(Scripted::new());
    let executor = kit.subject.make().await;
    let mut spec = kit.spec(&Program::Hang);
    let stranger = trainyard_executor::Handle {
        attempt: spec.attempt,
        container: "x".to_owned(),
    };
    assert!(
        executor.start(&stranger).await.is_err(),
        "start before create"
    );
    spec.fence = Fence(5);
    let handle = kit.start(&executor, &spec).await;
    assert!(
        executor.remove(&handle).await.is_err(),
        "remove while it runs"
    );
    spec.fence = Fence(4);
    assert!(
        executor.create(&spec).await.is_err(),
        "a supervisor that was fenced off"
    );
    let second = tokio::select! {
        biased;
        ended = executor.wait(&handle) => panic!("it hangs: {ended:?}"),
        second = executor.wait(&handle) => second,
    };
    assert!(second.is_err(), "two supervisors wait");
    executor.stop(&handle, Duration::ZERO).await.unwrap();
    let ended = executor.wait(&handle).await;
    assert!(
        matches!(ended, Ok(Status::Exited { code: 143, .. })),
        "{ended:?}"
    );
    executor.remove(&handle).await.unwrap();
    spec.fence = Fence(6);
    assert!(
        executor.create(&spec).await.is_err(),
        "create after remove would run it twice"
    );
    let misuse = executor.misuse();
    assert_eq!(misuse.len(), 5, "{misuse:#?}");
    assert!(
        misuse
            .iter()
            .all(|line| line.contains("contract is broken")),
        "{misuse:#?}"
    );
    assert_eq!(executor.runs(spec.attempt), 1);
}

#[tokio::test]
async fn a_lost_container_is_gone_when_it_would_have_ended() {
    let kit = Kit::new(Scripted::new());
    let executor = kit.subject.make().await;
    let spec = kit.spec_of(fake(&["sleep=20ms", "lost"]));
    let handle = kit.start(&executor, &spec).await;
    let error = executor.wait(&handle).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Gone);
    assert_eq!(executor.inspect(&handle).await, Ok(None));
    assert_eq!(executor.runs(spec.attempt), 1);
}

#[tokio::test]
async fn memory_images_and_an_engine_without_answers_are_scripted_too() {
    let kit = Kit::new(Scripted::new());
    let executor = kit.subject.make().await;
    let handle = kit.start(&executor, &kit.spec_of(fake(&["oom"]))).await;
    let ended = executor.wait(&handle).await.unwrap();
    assert!(
        matches!(
            ended,
            Status::Exited {
                code: 137,
                out_of_memory: true,
                ..
            }
        ),
        "{ended:?}"
    );
    let error = executor
        .create(&kit.spec_of(fake(&["image_missing"])))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImageNotFound);
    let request = ImageRequest {
        image: RenderedImage::Reference {
            image: "fake/unreachable:1".parse().unwrap(),
            pull: PullPolicy::IfMissing,
        },
        source: None,
        repo: None,
        branch: None,
        limits: Default::default(),
    };
    let error = executor.prepare(&request, &|_| {}).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ImagePull);
    let troubled = kit.spec_of(fake(&["trouble=create:2"]));
    for _ in 0..2 {
        assert_eq!(
            executor.create(&troubled).await.unwrap_err().kind,
            ErrorKind::Unreachable
        );
    }
    assert!(executor.create(&troubled).await.is_ok());
    executor.set_silent(true);
    assert_eq!(
        executor.list().await.unwrap_err().kind,
        ErrorKind::Unreachable
    );
    executor.set_silent(false);
    assert!(executor.list().await.is_ok());
    assert_eq!(executor.misuse(), Vec::<String>::new());
}

#[tokio::test]
async fn a_script_with_a_mistake_says_where() {
    let kit = Kit::new(Scripted::new());
    let executor = kit.subject.make().await;
    let error = executor
        .create(&kit.spec_of(fake(&["log=a", "slep=1s"])))
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Start);
    assert!(error.message.contains("slep"), "{error}");
}
