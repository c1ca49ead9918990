//! `trainyard exec` runs one file here and now, with neither daemon nor database.

use trainyard_tests::cli::call;
use trainyard_tests::place::Place;

#[test]
fn the_smallest_file_runs() {
    let place = Place::new();
    place.write(
        "hello.yaml",
        "stages: {hello: {image: alpine:3, run: echo hi}}\n",
    );
    let answer = call(place.path(), &[], &["exec", "hello.yaml"]).good();
    assert!(answer.stdout.contains("hi"), "{answer:#?}");
}

#[test]
fn a_failed_stage_gives_exit_code_1_and_its_reason() {
    let place = Place::new();
    place.write(
        "fail.yaml",
        "stages: {hello: {image: alpine:3, run: exit 3}}\n",
    );
    let answer = call(place.path(), &[], &["exec", "fail.yaml"]);
    assert_eq!(answer.code, Some(1), "{answer:#?}");
    assert!(
        format!("{}{}", answer.stdout, answer.stderr).contains("exit code 3"),
        "{answer:#?}"
    );
}

#[test]
fn the_working_tree_is_taken_as_it_stands() {
    let place = Place::new();
    place.write(
        "dags/look.yaml",
        "stages: {look: {image: alpine:3, run: cat data.txt}}\n",
    );
    place.write("data.txt", "not committed\n");
    let answer = call(place.path(), &[], &["exec", "dags/look.yaml"]).good();
    assert!(answer.stdout.contains("not committed"), "{answer:#?}");
}

#[test]
fn a_wrong_file_gives_exit_code_2_and_where() {
    let place = Place::new();
    place.write(
        "wrong.yaml",
        "stages: {hello: {imag: alpine:3, run: echo hi}}\n",
    );
    let answer = call(place.path(), &[], &["exec", "wrong.yaml"]);
    assert_eq!(answer.code, Some(2), "{answer:#?}");
    assert!(answer.stderr.contains("wrong.yaml:1:18"), "{answer:#?}");
}

#[test]
fn one_stage_alone_can_be_run() {
    let place = Place::new();
    let text = "stages:\n  a: {image: alpine:3, run: echo first}\n  b: {needs: [a], image: alpine:3, run: echo second}\n";
    place.write("two.yaml", text);
    let answer = call(place.path(), &[], &["exec", "two.yaml", "--stage", "b"]).good();
    assert!(
        answer.stdout.contains("second") && !answer.stdout.contains("first"),
        "{answer:#?}"
    );
}
