// The theme names its search buttons "Search" beside a visible text that says more: the visible text is the name.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("button.search-button-field").forEach((button) => button.removeAttribute("aria-label"));
});
