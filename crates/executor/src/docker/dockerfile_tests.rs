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
            "FROM alpine:3\nRUN cat <<< x; echo $((1<<2))",
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
    for text in [
        // Ids of images, in every place.
        "FROM 10be",
        "FROM sha256:10be",
        "FROM trainyard/build:00ff",
        "ARG X=10be\nFROM $X",
        "ARG X=1\nFROM ${X}0be",
        "FROM '10be'",
        "FROM \"10be\" AS x",
        "from\t10be",
        "FROM alpine:3\nCOPY --from=10be /a /b",
        "FROM alpine:3\ncopy --chown=0 --from=10be a b",
        // The second byte of `à` is a blank to Docker, and ends the option.
        "FROM alpine:3\nCOPY --chown=0:à--from=10be /a /b",
        "FROM alpine:3\nONBUILD COPY --chown=0:à--from=10be /a /b",
        "FROM alpine:3\nADD --chown=0:\u{c5}--from=10be /a /b",
        // A blank of Unicode ends no option for Docker.
        "FROM alpine:3\nCOPY --chown=${X:+\u{2003}a} --from=10be /a /b",
        "FROM alpine:3\nCOPY --chown=0\u{2003}--from=10be /a /b",
        "FROM alpine:3\nCOPY a --from=10be /b",
        "FROM alpine:3\nADD /b",
        "FROM alpine:3\nCOPY --from=1 /a /b",
        "FROM alpine:3\nCOPY --from=0 /a /b",
        "FROM alpine:3\nARG X=10be\nCOPY --from=$X /a /b",
        "FROM alpine:3\nCOPY --from=\"10be\" a b",
        "FROM alpine:3\nCOPY --from a b",
        "FROM alpine:3\nCOPY --from= a b",
        "FROM alpine:3\nONBUILD COPY --from=10be a b",
        "FROM alpine:3 AS 10be\nFROM 10be",
        "FROM alpine:3\nRUN --mount=type=bind,from=10be,target=/x true",
        // Addresses, in every spelling.
        "FROM alpine:3\nADD http://127.0.0.1/x /y",
        "FROM alpine:3\nadd HTTPS://x /y",
        "FROM alpine:3\nADD --chown=1 http://x /y",
        "FROM alpine:3\nADD a http://x /y",
        "FROM alpine:3\nADD [\"http://x\", \"/y\"]",
        "FROM alpine:3\nADD [\"http:\\u002f\\u002fx\", \"/y\"]",
        "FROM alpine:3\nADD [\"http:\\u002f\\u002fx\", \"/y\"] z",
        "FROM alpine:3\nADD [\"\\ud800\", \"/y\"]",
        "FROM alpine:3\nADD \"http://x\" /y",
        "FROM alpine:3\nADD ht\"tp:/\"/x /y",
        "FROM alpine:3\nADD ht\\tp://x /y",
        "FROM alpine:3\nADD ht\\\ntp://x /y",
        "FROM alpine:3\nARG U=http://x\nADD $U /y",
        "FROM alpine:3\nENV U=ttp://x\nADD h${U} /y",
        "FROM alpine:3\nADD [\"$U\", \"/y\"]",
        "FROM alpine:3\nADD git@github.com:a/b.git /y",
        "FROM alpine:3\nADD github.com/a/b /y",
        "FROM alpine:3\nADD git://x/y /y",
        "FROM alpine:3\nADD --checksum=sha256:00 http://x /y",
        "FROM alpine:3\nONBUILD ADD http://x /y",
        "FROM alpine:3\nonbuild\tadd http://x /y",
        "FROM alpine:3\nADD \\\n  # c\n http://x /y",
        "FROM alpine:3\nADD \\\n\n\n http://x /y",
        "FROM alpine:3\n   ADD http://x /y",
        "FROM alpine:3\n\u{a0}ADD http://x /y",
        // What versions of Docker read in different ways.
        "# escape=`\nFROM alpine:3",
        "#ESCAPE = `\nFROM alpine:3",
        "# a=b\n# escape=`\nFROM alpine:3",
        "# syntax=127.0.0.1:5000/x\nFROM alpine:3",
        "#syntax=evil/frontend\nFROM alpine:3",
        "FROM alpine:3\nRUN x \\\\\nADD y /z",
        "FROM alpine:3\nRUN x \\\n  # c\nADD y /z",
        "FROM alpine:3\nRUN <<EOF\nADD y /z\nEOF",
        "FROM alpine:3\nCOPY <<-'EOF' /x\nx\nEOF",
        // What is not a Dockerfile.
        "RUN x\nFROM alpine:3",
        "FROM",
        "FROM a b",
        "FROM a AS b c",
        "HELLO x",
        "FROM alpine:3\nONBUİLD x",
        "FROM alpine:3\nONBUILD ONBUILD ADD x y",
        "FROM alpine:3\nONBUILD FROM x",
        "FROM alpine:3\nONBUILD",
        "FROM ${X",
        "FROM ${X:?y}",
        "FROM $1",
        "FROM \"a",
        "FROM a\\b",
        "FROM alpine:3\nRUN \0",
        "FROM http://x/y",
        "FROM ../../x",
        "FROM $UNSET",
    ] {
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
