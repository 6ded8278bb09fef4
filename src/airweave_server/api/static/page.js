// Sends the forms of /docs to the server that the page comes from. The key stays in this page.
"use strict";

async function send(form) {
  const answer = form.querySelector(".answer");
  let path = form.dataset.path;
  const query = new URLSearchParams();
  for (const field of form.querySelectorAll("input[data-in]")) {
    if (field.dataset.in === "path") {
      path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
    } else if (field.value !== "") {
      query.append(field.name, field.value);
    }
  }
  const headers = {};
  const key = document.getElementById("key").value;
  if (key !== "") headers["X-API-Key"] = key;
  const body = form.querySelector("textarea");
  if (body !== null) headers["Content-Type"] = "application/json";
  const url = query.size ? `${path}?${query}` : path;
  answer.hidden = false;
  answer.textContent = `${form.dataset.method} ${url} …`;
  try {
    const method = form.dataset.method;
    const response = await fetch(url, { method, headers, body: body === null ? undefined : body.value });
    answer.textContent = `${method} ${url}\n${response.status} ${response.statusText}\n`;
    await show(response, answer);
  } catch (error) {
    answer.textContent += `\n${error}`;
  }
}

async function show(response, answer) {
  if ((response.headers.get("content-type") || "").startsWith("text/event-stream")) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) answer.textContent += part.value;
    return;
  }
  const text = await response.text();
  try {
    answer.textContent += JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    answer.textContent += text;
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target);
});
