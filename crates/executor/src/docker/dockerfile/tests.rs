mod hostile;

use self::hostile::{HOSTILE, OF_BUILDKIT};
use super::*;

fn buildkit(version: (u32, u32)) -> Builder {
    Builder::BuildKit(BuildKit {
        version,
        arch: "amd64".to_owned(),
    })
}

fn read_by(builder: &Builder, text: &str) -> Result<Images, DockerfileFault> {
    read(text.as_bytes(), &BTreeMap::new(), None, builder)
}

fn images(text: &str) -> Result<Images, DockerfileFault> {
    read_by(&Builder::Classic, text)
}

#[track_caller]
fn named(text: &str) -> Vec<String> {
    names(&images(text).unwrap())
}

fn names(images: &Images) -> Vec<String> {
    let bases = images.bases.iter().map(|base| &base.image);
    let all = bases.chain(&images.copied_from).chain(&images.mentioned);
    all.map(ToString::to_string).collect()
}

#[test]
fn class_17_the_images_of_a_dockerfile_are_found_as_docker_finds_them() {
    for (text, expected) in [
        ("FROM alpine:3", &["alpine:3"][..]),
        (
            "from alpine:3 as Base\nFROM base\nCOPY --from=BASE /a /b",
            &["alpine:3"],
        ),
        ("FROM scratch\nCOPY . /", &[]),
        (
            "ARG BUILDPLATFORM=linux/amd64\nFROM --platform=$BUILDPLATFORM golang:1 AS x\nFROM x",
            &["golang:1"],
        ),
        (
            "# syntax=docker/dockerfile:1\n# escape=\\\nFROM alpine:3",
            &["alpine:3"],
        ),
        ("ARG V=3\nARG B=\"alpine:${V}\"\nFROM $B", &["alpine:3"]),
        ("ARG V\nFROM alpine:${V:-3}", &["alpine:3"]),
        (
            "FROM a/x:1\nCOPY --chown=1:1 --from=b/y:2 /p /q",
            &["a/x:1", "b/y:2"],
        ),
        (
            "FROM a/x:1 AS one\nFROM a/y:1\nCOPY --from=0 /p /q",
            &["a/x:1", "a/y:1"],
        ),
        (
            "FROM a/x:1\nRUN echo ADD http://x && \\\n  # why\n  echo \\\n\n  FROM y",
            &["a/x:1"],
        ),
        (
            "FROM a/x:1\nONBUILD COPY --from=c/z:1 /p /q",
            &["a/x:1", "c/z:1"],
        ),
        // Neither its own name nor that of a later stage is the name of a stage yet.
        (
            "FROM a/x:1 AS late\nCOPY --from=late /p /q",
            &["a/x:1", "late:latest"],
        ),
        ("\u{feff}FROM alpine:3\r\nRUN x\r\n", &["alpine:3"]),
        (
            "FROM alpine:3\nENV A=1 B=2\nENV C $A\nENV PATH=/x:$PATH\nADD src/$A dir/ $B/",
            &["alpine:3"],
        ),
        (
            "ARG DESC=\"two words\" MORE='a  b' B=alpine:3\nFROM ${B}",
            &["alpine:3"],
        ),
        (
            "FROM alpine:3\nRUN cat <<< x; echo $((1<<2)) $((1 << 2))",
            &["alpine:3"],
        ),
        // `<<` in quotes begins no here-document for any builder.
        (
            "FROM alpine:3\nRUN sh -c \"cat <<EOF > $HOME/x\"\nRUN echo '${X} \\n <<EOF' && y\n\
             RUN [\"sh\", \"-c\", \"cat <<EOF\"]",
            &["alpine:3"],
        ),
        // Whether the comment ends the instruction or not, nothing is fetched.
        (
            "FROM alpine:3\nRUN x && \\\n    # why\n    env A=1 make && \\\n\t# why\n\tadd y /z",
            &["alpine:3"],
        ),
        (
            "FROM alpine:3\nRUN x \\\n # c\nCOPY --from=b/y:2 /p /q",
            &["alpine:3", "b/y:2"],
        ),
        (
            "FROM alpine:3\nARG S=a\nADD ./$S ./${T:-b} /dst",
            &["alpine:3"],
        ),
    ] {
        assert_eq!(named(text), expected, "{text}");
    }
    let given = BTreeMap::from([("B".to_owned(), "team/app:2".to_owned())]);
    let found = read(b"ARG B=x\nFROM ${B}", &given, None, &Builder::Classic).unwrap();
    assert_eq!(found.bases[0].image.to_string(), "team/app:2");
}

#[test]
fn what_only_buildkit_knows_is_read_as_it_does() {
    for (text, expected) in [
        (
            "FROM alpine:3 AS one\nRUN --mount=type=cache,target=/c --mount=from=b/y:2,target=/y x\n\
             FROM a/x:1\nRUN --mount=from=ONE,src=/a,dst=/b x\nRUN --mount=type=tmpfs,target=/t x",
            &["alpine:3", "a/x:1", "b/y:2"][..],
        ),
        (
            "FROM --platform=$BUILDPLATFORM a/x:$TARGETARCH AS one\nARG TARGETOS\nRUN x",
            &["a/x:amd64"],
        ),
        (
            "FROM alpine:3\nCOPY --link --chmod=0755 --from=b/y:2 /a /b\nRUN --network=none x",
            &["alpine:3", "b/y:2"],
        ),
        // Text, and not instructions.
        (
            "FROM alpine:3\nRUN <<EOF\nADD http://x /z\nEOF",
            &["alpine:3"],
        ),
        (
            "FROM alpine:3\nCOPY <<-'A' <<b-c.txt /x/\n\tFROM 10be\n\tA\n b-c.txt\nb-c.txt\nCOPY --from=b/y:2 /a /b",
            &["alpine:3", "b/y:2"],
        ),
        (
            "FROM alpine:3\r\nRUN python3 - \"$A\" <<EOF > /x && \\\r\n  y\r\nFROM 10be\r\nEOF\r\nRUN z",
            &["alpine:3"],
        ),
    ] {
        let fault = images(text).unwrap_err();
        assert!(fault.needs_buildkit, "{text}: {fault}");
        let found = read_by(&buildkit((23, 0)), text).unwrap();
        assert_eq!(names(&found), expected, "{text}");
    }
}

#[test]
fn a_docker_that_is_too_old_is_reported_with_the_version_that_is_needed() {
    let fault = read_by(&buildkit((20, 10)), "FROM alpine:3\nRUN <<E\nx\nE").unwrap_err();
    assert_eq!(
        fault.to_string(),
        "2:1: a here-document (`<<NAME`) needs the BuildKit of Docker 23.0 or newer, and this is Docker 20.10: \
         update Docker, or commit the text as a file and `COPY` it"
    );
    assert!(!fault.needs_buildkit);
}

#[test]
fn stages_after_the_target_are_not_taken() {
    let text = "FROM alpine:3 AS First\nFROM a/x:1\nFROM b/y:2";
    let up_to = |target| read(text.as_bytes(), &BTreeMap::new(), target, &Builder::Classic);
    assert_eq!(names(&up_to(Some("first")).unwrap()), ["alpine:3"]);
    assert_eq!(names(&up_to(None).unwrap()).len(), 3);
    // A number, or a mistake: all of it.
    assert_eq!(names(&up_to(Some("0")).unwrap()).len(), 3);
}

#[test]
fn class_17_buildkit_is_not_steered_by_arguments_and_frontends() {
    let args = BTreeMap::from([("BUILDKIT_SYNTAX".to_owned(), "evil/x".to_owned())]);
    assert!(read(b"FROM alpine:3", &args, None, &buildkit((23, 0))).is_err());
    let text = b"\xef\xbb\xbf#!/x\n#  Syntax = docker/dockerfile:1\r\n# escape=\\\nFROM alpine:3\n# syntax=x";
    let without = without_frontend(text);
    assert_eq!(without.len(), text.len());
    let without = String::from_utf8(without).unwrap();
    assert!(
        without.contains("#  ------ = docker/dockerfile:1"),
        "{without}"
    );
    assert!(without.ends_with("# syntax=x"), "{without}");
}

#[test]
fn class_17_no_build_chooses_a_proxy_for_steps_that_others_take_over() {
    for builder in [Builder::Classic, buildkit((23, 0))] {
        for name in ["http_proxy", "HTTPS_PROXY", "No_Proxy", "ALL_PROXY"] {
            let args = BTreeMap::from([(name.to_owned(), "http://192.0.2.2".to_owned())]);
            let refused = read(b"FROM alpine:3", &args, None, &builder).unwrap_err();
            assert!(refused.message.contains("ENV"), "{}", refused.message);
        }
    }
}

#[test]
fn class_17_a_dockerfile_that_reaches_beyond_its_repo_is_refused() {
    let none = BTreeMap::new();
    for builder in [Builder::Classic, buildkit((20, 10)), buildkit((29, 0))] {
        for text in HOSTILE.iter().chain(OF_BUILDKIT) {
            let found = read_by(&builder, text);
            assert!(found.is_err(), "{builder:?}: {text:?}: {found:?}");
        }
        assert!(read(b"FROM alpine:3\n# \xff", &none, None, &builder).is_err());
        assert!(read(&vec![b'#'; LARGEST + 1], &none, None, &builder).is_err());
        let text = b"FROM alpine:3 AS a\nCOPY --from=evil / /x\nFROM 10be AS evil";
        let found = read(text, &none, Some("a"), &builder);
        // For the classic builder it is an image of that name.
        assert!(found.is_err() || names(&found.unwrap()).contains(&"evil:latest".to_owned()));
    }
}

#[test]
fn a_fault_has_its_line_and_column_and_says_what_to_do() {
    let fault = images("FROM alpine:3\n\n  ADD http://x/y \\\n /z").unwrap_err();
    assert_eq!((fault.line, fault.column), (3, 3));
    assert!(fault.message.contains("use COPY"), "{fault}");
}

#[test]
fn class_17_variables_that_double_do_not_eat_docker_s_memory() {
    let mut text = "FROM alpine:3\nENV A0=xxxxxxxxxx\n".to_owned();
    for step in 1..40 {
        text.push_str(&format!("ENV A{step}=$A{0}${{A{0}}}$A{0}\n", step - 1));
    }
    let fault = images(&text).unwrap_err();
    assert!(fault.message.contains("grow beyond"), "{fault}");
}

#[test]
fn class_17_what_a_base_image_runs_is_read_like_the_dockerfile() {
    let base = &images("FROM a/x:1 AS one\nFROM a/y:1").unwrap().bases[1];
    let read = |trigger: &str| read_triggers(&[trigger.to_owned()], base, &Builder::Classic);
    assert_eq!(read("COPY --from=one /a /b"), Ok(vec![]));
    assert_eq!(read("COPY --from=0 /a /b"), Ok(vec![]));
    assert_eq!(read("RUN make"), Ok(vec![]));
    assert_eq!(
        read("COPY --from=b/z:1 /a /b").unwrap()[0].to_string(),
        "b/z:1"
    );
    for trigger in [
        "ADD http://127.0.0.1/x /y",
        "COPY --from=10be a b",
        "FROM x",
        "ONBUILD RUN x",
        "x",
    ] {
        assert!(read(trigger).is_err(), "{trigger}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "((FROM|ADD|COPY --from=|RUN|RUN --mount=|<<E|ARG|ONBUILD| |\\$\\{|\\\\\n|\"|'|#|\n|a|1|:|/|\\PC)){0,60}") {
        let _ = images(&text);
        let _ = read_by(&buildkit((29, 0)), &text);
    }
}
