/** The worker behind proofs and replays: long folds leave the page's own thread free. */

import { readLine } from "../fold/export";
import { Checker } from "./check";
import { eachLine, ReplayLog, type Opened } from "./log";
import { LogWorker } from "./logWorker";
import type { Question, Reply } from "./messages";
import { packed, PIECE_BYTES, piecesOf, readPiece } from "./pieces";
import { prove } from "./prove";
import { sourcesOf } from "./sources";

const HELPERS_MOST = 3;

let log: ReplayLog | null = null;

function tell(reply: Reply): void {
  postMessage(reply);
}

async function answer(question: Question): Promise<unknown> {
  const { number } = question;
  const progress = (value: number): void => tell({ number, kind: "progress", progress: value });
  switch (question.name) {
    case "prove": {
      const { id, at } = question.ask;
      return prove(id, at, sourcesOf(id), progress);
    }
    case "open": {
      const opening = new ReplayLog(question.ask.file);
      const opened = await openWithHelp(opening, question.ask.file, progress);
      log = opening;
      return opened;
    }
    case "piece":
      return packed(await readPiece(question.ask.file, question.ask.place, PIECE_BYTES));
    case "check": {
      const checker = new Checker();
      await eachLine(question.ask.file, (line) => checker.add(readLine(line.text)), progress);
      return checker.end();
    }
    case "seek":
      return opened().seek(question.ask.id, question.ask.events);
    case "events":
    case "samples": {
      const { id, from, limit, until } = question.ask;
      return opened()[question.name](id, from, limit, until);
    }
  }
}

/** Open a log while workers like this one, one for each other core, read pieces of it. */
async function openWithHelp(
  opening: ReplayLog,
  file: Blob,
  progress: (value: number) => void,
): Promise<Opened> {
  const others = typeof Worker === "undefined" ? 0 : navigator.hardwareConcurrency - 1;
  const count = Math.max(0, Math.min(HELPERS_MOST, others, piecesOf(file, PIECE_BYTES) - 1));
  const workers = Array.from({ length: count }, () => new LogWorker(location.href));
  try {
    const helpers = workers.map((worker) => ({
      read: (place: number) => worker.ask("piece", { file, place }),
    }));
    return await opening.open(progress, helpers);
  } finally {
    for (const worker of workers) worker.end();
  }
}

function opened(): ReplayLog {
  if (!log) throw new Error("No file is open; choose one.");
  return log;
}

addEventListener("message", ({ data }: MessageEvent<Question>) => {
  answer(data).then(
    (found) => tell({ number: data.number, kind: "answer", answer: found }),
    (error: unknown) => {
      const words = error instanceof Error ? error.message : String(error);
      tell({ number: data.number, kind: "failure", words });
    },
  );
});
