//! The fuzz targets: every reader of bytes from a peer, a pusher or a stage.

use chrono_tz::Tz;
use http::{HeaderMap, HeaderName, HeaderValue};
use secrecy::SecretString;
use trainyard_core::cron::Cron;
use trainyard_core::expression::{Condition, Template};
use trainyard_core::image::ImageReference;
use trainyard_core::trigger::Pattern;
use trainyard_executor::readers;
use trainyard_forge::webhook::Provider;
use trainyard_forge::{CommitSha, RemoteUrl, UrlRules};
use trainyard_init::{Nonce, Record};

/// Something that reads bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, on the command line and as the folder of what was found.
    pub name: &'static str,
    /// Reads an input, and drops what it makes of it.
    pub call: fn(&[u8]),
    pub samples: &'static [&'static [u8]],
    pub words: &'static [&'static str],
}

pub const ALL: &[Target] = &[
    Target {
        name: "dag_file",
        call: |input| drop(trainyard_dagfile::parse_bytes("dags/x.yaml", input)),
        samples: &[
            b"stages:\n  a: {image: \"alpine:3\", run: echo hi}\n",
            b"params: {lr: {type: number, default: 0.1}}\ntriggers: {push: {branches: [\"main\"]}, schedule: [{cron: \"0 5 * * 2\"}]}\nstages:\n  a:\n    image: alpine:3\n    run: |\n      echo ${{ params.lr }}\n    outputs: {model: model.bin}\n  b: {needs: [a], image: \"alpine:3\", run: \"true\", if: \"params.lr > 0\"}\n",
        ],
        words: &[
            "stages:", "params:", "triggers:", "needs:", "image:", "run:", "if:", "${{ ", " }}", "&a ", "*a", "<<: *a",
            "- ", "? ", "!!binary ", "|\n", ">\n", "---\n", "...\n", "%YAML 1.2\n", "build:", "env:", "\u{feff}",
        ],
    },
    Target {
        name: "expression",
        call: |input| {
            let text = String::from_utf8_lossy(input);
            drop(Condition::parse(&text));
            drop(Template::parse(&text));
        },
        samples: &[
            b"params.lr > 0.1 && cause.kind == \"push\"",
            b"${{ params.lr }}-${{ metrics.train.accuracy }}",
        ],
        words: &[
            "params.lr", "metrics", "cause.kind", "&&", "||", "!", "in ", "==", "<=", "and ", "or ", "not ", "${{", "}}",
            "\"", "[", "]", "{", "}", "(", ")", "|string", "~", "*", "9999", "? 1 :", ".", "true", "null",
        ],
    },
    Target {
        name: "webhook",
        call: webhook,
        samples: &[
            br#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00","deleted":false,"pusher":{"name":"ada"}}"#,
            b"payload=%7B%22ref%22%3A%22refs%2Ftags%2Fv1%22%7D",
        ],
        words: &[
            "\"ref\":", "\"before\":", "\"after\":", "\"pusher\":", "\"name\":", "refs/heads/", "refs/tags/", "null",
            "\\u0000", "\\ud800", "payload=", "%7B", "true",
        ],
    },
    Target {
        name: "init_record",
        call: |input| {
            let nonce = Nonce::new([7; 32]);
            for nonce in [None, Some(&nonce)] {
                let _ = Record::parse(input, nonce);
                let _ = Record::find(input, nonce);
            }
        },
        samples: &[b"\x1etrainyard-init 1 ended code=000 signal=00 asked=0 oom=0 errno=0\n"],
        words: &["\x1e", "code=", "signal=", "errno=", "ended ", "\n", "000", "="],
    },
    Target {
        name: "git_refs",
        call: |input| {
            let text = String::from_utf8_lossy(input);
            drop(CommitSha::new(&text));
            let rules = UrlRules {
                allow_file_urls: true,
                ..UrlRules::default()
            };
            drop(RemoteUrl::parse(&text, &rules));
            if let Ok(pattern) = Pattern::new(text.as_ref()) {
                let _ = pattern.matches(&text);
            }
        },
        samples: &[
            b"https://user:password@example.org/team/repo.git",
            b"refs/heads/main",
            b"release/**",
        ],
        words: &[
            "https://", "file://", "ssh://", "ext::", "@", ":", "..", "refs/heads/", "**", "*", "?", "{a,b}", "[!a]", "%2f",
            "[::1]", "--upload-pack=",
        ],
    },
    Target {
        name: "image_reference",
        call: |input| {
            let text = String::from_utf8_lossy(input);
            drop(ImageReference::parse(&text));
            drop(ImageReference::requested(&text));
        },
        samples: &[
            b"registry.example.org:5000/team/train:1.2",
            b"python@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            b"alpine",
        ],
        words: &["docker.io/", "localhost", "127.0.0.1:", "[::1]", "sha256:", "@", ":", "/", "..", "?x=", "__", "-", "10be"],
    },
    Target {
        name: "dockerfile_head",
        call: readers::dockerfile,
        samples: &[
            b"ARG BASE=alpine:3\nFROM ${BASE} AS build\nCOPY --from=build a b\nADD x /x\nONBUILD RUN true\n",
            b"# escape=`\nFROM alpine:3\nRUN [\"a\", \"b\"]\n",
        ],
        words: &[
            "FROM ", "ARG ", "ENV ", "ADD ", "COPY ", "--from=", "ONBUILD ", "# syntax=", "# escape=`", "\\\n", "<<EOF\n",
            "${X:-", "${X:+", "}", "$X", "[\"", "http://", "git@", " AS ", "--platform=", "--mount=",
        ],
    },
    Target {
        name: "dockerignore",
        call: |input| {
            let text = String::from_utf8_lossy(input);
            let path: String = text.chars().rev().take(200).collect();
            readers::dockerignore(&text, &path);
        },
        samples: &[b"*.pyc\n!keep.pyc\n**/data/**\n# comment\n", b"a/b/?[a-z]*\n"],
        words: &["*", "**/", "/**", "?", "[a-z]", "[^", "!", "\\", "#", "..", "\n", "\u{feff}"],
    },
    Target {
        name: "archive",
        call: readers::output,
        samples: &[&[0; 1024], include_bytes!("../samples/folder.tar")],
        words: &["ustar\0", "0000644\0", "./", "../", "/", "5", "2", "1", "x", "g", "L", "S", "30 path=", "77777777777\0"],
    },
    Target {
        name: "cron",
        call: |input| {
            if let Ok(cron) = Cron::parse(&String::from_utf8_lossy(input)) {
                let _ = cron.next_after(std::time::UNIX_EPOCH.into(), Tz::UTC);
            }
        },
        samples: &[b"0 5 * * 2", b"*/15 0-6,22 1 jan-dec mon#1", b"@daily"],
        words: &["*", "*/2", "L", "W", "#", "-", ",", "@daily", "TZ=UTC ", "30 2", "29", "feb", "sun", "?"],
    },
];

/// A delivery that is signed rightly, so that it is read.
fn webhook(input: &[u8]) {
    let secret = SecretString::from("a secret of this target");
    for provider in [Provider::GitHub] {
        for kind in ["application/json", "application/x-www-form-urlencoded"] {
            let (name, signature) = provider.sign(&secret, input);
            let mut headers = HeaderMap::new();
            let mut set = |name: &'static str, value: &str| {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(HeaderName::from_static(name), value);
                }
            };
            set(name, &signature);
            set("x-github-event", "push");
            set("x-github-delivery", "d-1");
            set("content-type", kind);
            let verified = provider.verify(&secret, &headers, input);
            assert!(verified.is_ok(), "what was signed is not verified");
            if let Ok(verified) = verified {
                drop(verified.parse());
            }
        }
    }
}
