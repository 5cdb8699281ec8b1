/** Two samples side by side, field by field, with the words that only one of them has marked. */

import { diffWordsWithSpace } from "diff";
import { useMemo } from "react";

import type { SampleView } from "../contract";
import { asJson, originOf, textOf } from "../sampleWords";
import { shortId, spaced, UNKNOWN } from "../words";
import { Foreign } from "./parts";

/** Texts that take longer to compare than this are shown without marks. */
const COMPARE_MS = 150;

interface Part {
  text: string;
  isOwn: boolean;
}

export function SampleDiff(props: { left: SampleView; right: SampleView; isRaw: boolean }) {
  const { left, right, isRaw } = props;
  const fields = useMemo(
    () =>
      isRaw
        ? [["JSON", asJson(left), asJson(right)] as const]
        : [...new Set([...Object.keys(left.content), ...Object.keys(right.content)])].map(
            (name) => [name, left.content[name], right.content[name]] as const,
          ),
    [left, right, isRaw],
  );
  return (
    <div className="sample-diff" data-testid="sample-diff">
      <Head sample={left} />
      <Head sample={right} />
      {fields.map(([name, one, other]) => (
        <FieldDiff key={name} name={name} one={one} other={other} />
      ))}
    </div>
  );
}

function Head({ sample }: { sample: SampleView }) {
  return (
    <p>
      <b className="mono">
        {shortId(sample.batch_id)} #{sample.slot}
      </b>
      <br />
      <small>
        <Foreign>{originOf(sample)}</Foreign>
      </small>
    </p>
  );
}

function FieldDiff(props: { name: string; one: unknown; other: unknown }) {
  const one = props.one === undefined ? UNKNOWN : textOf(props.one);
  const other = props.other === undefined ? UNKNOWN : textOf(props.other);
  const sides = useMemo(() => compare(one, other), [one, other]);
  return (
    <section aria-label={spaced(props.name)} data-testid="field-diff" data-field={props.name}>
      <h4>
        {spaced(props.name)}{" "}
        {one === other && <span className="tag">the same</span>}
        {sides === null && <span className="tag">too different to mark</span>}
      </h4>
      <div className="sides">
        <Side parts={sides?.left ?? [{ text: one, isOwn: false }]} mark="del" />
        <Side parts={sides?.right ?? [{ text: other, isOwn: false }]} mark="ins" />
      </div>
    </section>
  );
}

function Side({ parts, mark: Mark }: { parts: readonly Part[]; mark: "del" | "ins" }) {
  return (
    <div className="long-text" tabIndex={0}>
      <bdi className="foreign">
        {parts.map(({ text, isOwn }, place) => (isOwn ? <Mark key={place}>{text}</Mark> : text))}
      </bdi>
    </div>
  );
}

/** Both texts cut into what they share and what only one has; null if that takes too long. */
function compare(one: string, other: string): { left: Part[]; right: Part[] } | null {
  if (one === other) {
    const same = [{ text: one, isOwn: false }];
    return { left: same, right: same };
  }
  const changes = diffWordsWithSpace(one, other, { timeout: COMPARE_MS });
  if (changes === undefined) return null;
  const part = ({ value }: { value: string }, isOwn: boolean): Part => ({ text: value, isOwn });
  return {
    left: changes.filter(({ added }) => !added).map((one) => part(one, one.removed)),
    right: changes.filter(({ removed }) => !removed).map((one) => part(one, one.added)),
  };
}
