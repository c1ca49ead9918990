mod hostile;

use self::hostile::HOSTILE;
use super::*;

fn images(text: &str) -> Result<Images, DockerfileFault> {
    read(text.as_bytes(), &BTreeMap::new())
}

#[track_caller]
fn named(text: &str) -> Vec<String> {
    let images = images(text).unwrap();
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
            "FROM --platform=$BUILDPLATFORM golang:1 AS x\nFROM x",
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
        // Its own name, and that of a later stage, are none of a stage yet.
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
    let found = read(b"ARG B=x\nFROM ${B}", &given).unwrap();
    assert_eq!(found.bases[0].image.to_string(), "team/app:2");
}

#[test]
fn class_17_a_dockerfile_that_reaches_beyond_its_repo_is_refused() {
    for text in HOSTILE {
        assert!(images(text).is_err(), "{text:?}: {:?}", images(text));
    }
    assert!(read(b"FROM alpine:3\n# \xff", &BTreeMap::new()).is_err());
    assert!(read(&vec![b'#'; LARGEST + 1], &BTreeMap::new()).is_err());
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
    let read = |trigger: &str| read_triggers(&[trigger.to_owned()], base);
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
    fn any_text_is_read_without_a_panic(text in "((FROM|ADD|COPY --from=|RUN|ARG|ONBUILD| |\\$\\{|\\\\\n|\"|'|#|\n|a|1|:|/|\\PC)){0,60}") {
        let _ = images(&text);
    }
}
