/** A batch's samples as files. */

import { exportAddress } from "../calls";
import type { BatchView } from "../contract";

const FORMATS = [
  ["parquet", "Parquet"],
  ["jsonl", "JSON lines"],
  ["hf", "Hugging Face folder (tar)"],
] as const;

export function Exports({ batch }: { batch: BatchView }) {
  const hasFamily = [batch.parent_id, batch.retry_id, batch.child_id].some(Boolean);
  return (
    <section>
      <h3>The samples as files</h3>
      <Row name="The samples of this batch" of="batches" id={batch.id} />
      {hasFamily && (
        <Row name="With those of its parents and children" of="datasets" id={batch.dataset_id} />
      )}
    </section>
  );
}

function Row(props: { name: string; of: "batches" | "datasets"; id: string }) {
  return (
    <p className="exports">
      <span>{props.name}:</span>
      {FORMATS.map(([format, title]) => (
        <a
          key={format}
          className="button"
          href={exportAddress(props.of, props.id, format)}
          download
          data-testid={`export-${props.of}-${format}`}
        >
          {title}
        </a>
      ))}
    </p>
  );
}
