/** Text into the clipboard, on plain http too, where browsers keep the newer way back. */

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) {
    console.info("The clipboard is closed to this page; the older way is tried.", error);
    return copySelected(text);
  }
}

function copySelected(text: string): boolean {
  const holder = document.createElement("textarea");
  holder.value = text;
  holder.className = "for-readers";
  document.body.append(holder);
  holder.select();
  try {
    return document.execCommand("copy");
  } finally {
    holder.remove();
  }
}
