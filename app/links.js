// Copies the address of this page, which holds its settings and never a run.

const WAYS = [
  ["Copy link", "These settings, for somebody else", (url) => url],
  ["Copy link for a slide", "The figures alone, without controls, training by themselves", (url) => (url.searchParams.set("embed", "true"), url)],
];

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // not allowed here: an address without https, or a browser that asks
  }
}

export default function ({ parentElement }) {
  if (parentElement.querySelector(".links")) return;
  const row = document.createElement("div");
  row.className = "links";
  Object.assign(row.style, { display: "flex", flexWrap: "wrap", alignItems: "center", gap: "0.5rem 0.6rem", font: "inherit" });
  const said = document.createElement("span");
  said.setAttribute("role", "status");
  Object.assign(said.style, { fontSize: "0.9rem", overflowWrap: "anywhere", userSelect: "all" });
  for (const [label, title, change] of WAYS) {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: label, title });
    Object.assign(button.style, {
      font: "inherit", cursor: "pointer", color: "var(--st-text-color)", background: "var(--st-secondary-background-color)",
      border: "1px solid var(--st-border-color)", borderRadius: "var(--st-base-radius)", padding: "0.3rem 0.8rem",
    });
    button.addEventListener("click", async () => {
      const url = new URL(location.href);
      for (const key of ["embed", "embed_options"]) url.searchParams.delete(key);
      const text = change(url).href;
      said.textContent = (await copy(text)) ? "Copied." : text;
    });
    row.append(button);
  }
  row.append(said);
  parentElement.append(row);
}
