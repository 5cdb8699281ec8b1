/** The worker behind proofs and replays: long folds leave the page's own thread free. */

import { readLine } from "../fold/export";
import { Checker } from "./check";
import { eachLine, ReplayLog } from "./log";
import type { Question, Reply } from "./messages";
import { prove } from "./prove";
import { sourcesOf } from "./sources";

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
      const opened = await opening.open(progress);
      log = opening;
      return opened;
    }
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
