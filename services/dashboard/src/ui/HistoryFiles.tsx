/** The list of batches, as it is filtered and sorted, as a file. */

import { useState } from "react";

import type { HistoryQuestion } from "../calls";
import type { Format } from "../historyFile";
import { wordsOf } from "../words";
import { Foreign } from "./parts";

const FORMATS: readonly [format: Format, title: string, type: string][] = [
  ["csv", "CSV", "text/csv"],
  ["jsonl", "JSON lines", "application/jsonl"],
];

export function HistoryFiles({ question }: { question: HistoryQuestion }) {
  const [isBusy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState("");
  const keep = async (format: Format, type: string): Promise<void> => {
    setBusy(true);
    setTrouble("");
    try {
      const { historyFile, keepFile } = await import("../historyFile");
      keepFile(await historyFile(question, format), `batches.${format}`, type);
    } catch (error) {
      setTrouble(wordsOf(error));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      {trouble && (
        <span className="is-bad" role="alert">
          The batches could not be read: <Foreign>{trouble}</Foreign>{" "}
        </span>
      )}
      {isBusy ? "Reading the batches… " : "These batches as "}
      {FORMATS.map(([format, title, type]) => (
        <button
          key={format}
          type="button"
          className="quiet"
          data-testid={`history-${format}`}
          disabled={isBusy}
          onClick={() => void keep(format, type)}
        >
          {title}
        </button>
      ))}
    </>
  );
}
